"""The settings with which flow runs begin."""

from __future__ import annotations

from prefect.context import SettingsContext, serialize_context
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)

from daskenv_lab.flows.settings import settings_of_flow_run


def test_they_are_those_of_the_process_without_heartbeats() -> None:
    """Nothing else differs, in use and as they are written down."""
    before = serialize_context()["settings_context"]
    with settings_of_flow_run():
        assert get_current_settings().flows.heartbeat_frequency is None
        within = serialize_context()["settings_context"]
    flows = within["settings"].pop("flows")
    assert flows.pop("heartbeat_frequency") is None
    now = get_current_settings().flows
    assert flows == {name: getattr(now, name) for name in flows}
    before["settings"].pop("flows", None)
    assert within == before


def test_heartbeats_that_were_asked_for_are_sent() -> None:
    """Who has set how often keeps it."""
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 45}), settings_of_flow_run():
        assert get_current_settings().flows.heartbeat_frequency == 45


def test_what_is_written_is_the_readers_own() -> None:
    """Whoever reads the written settings may change them."""
    for _ in range(2):
        with settings_of_flow_run():
            written = serialize_context()["settings_context"]
            assert "changed" not in written["settings"]
            written["settings"]["changed"] = True


def test_changes_are_heeded() -> None:
    """Settings that change between flow runs, or inside one, are written as they are then."""
    seen = []
    for url in ("http://127.0.0.1:1/api", "http://127.0.0.1:2/api", "http://127.0.0.1:1/api"):
        with temporary_settings({PREFECT_API_URL: url}), settings_of_flow_run():
            seen.append(serialize_context()["settings_context"]["settings"]["api"]["url"])
            with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:3/api"}):
                inside = serialize_context()["settings_context"]["settings"]["api"]["url"]
            assert inside == "http://127.0.0.1:3/api"
    assert [url[17] for url in seen] == ["1", "2", "1"]


def test_they_can_be_entered_again_and_again() -> None:
    """A flow in a flow begins while the outer one's settings are in force."""
    outside = SettingsContext.get()
    with settings_of_flow_run():
        with settings_of_flow_run():
            assert SettingsContext.get() is not outside
        with settings_of_flow_run():
            pass
    assert SettingsContext.get() is outside
