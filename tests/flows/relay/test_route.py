"""When calls are relayed: what the workers reach, what the settings hold, what the user says."""

from __future__ import annotations

from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster, Security
from prefect.context import serialize_context
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_DATABASE_PASSWORD,
    temporary_settings,
)

from daskenv_lab.errors import ConfigError
from daskenv_lab.flows.relay.prefect_http import stripped
from daskenv_lab.flows.relay.route import route_for

from .conftest import KEY, WireApi, door_of


def test_reachable_api_is_asked_straight(client: Client, wire: WireApi) -> None:
    """Workers that reach the API use it themselves; they are asked once."""
    with temporary_settings({PREFECT_API_URL: wire.url}):
        route = route_for(client)
        assert not route.relayed
        assert route.url == wire.url
        asked = len(wire.asked)
        assert asked == 3
        assert route_for(client) is route
        assert len(wire.asked) == asked


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        (PREFECT_API_KEY, KEY, "API key"),
        (PREFECT_API_AUTH_STRING, "ada:secret", "auth string"),
        (PREFECT_CLIENT_CUSTOM_HEADERS, {"X-Token": "secret"}, "headers"),
    ],
)
def test_secret_is_relayed(
    client: Client, wire: WireApi, setting: Any, value: Any, named: str
) -> None:
    """With a secret among the settings calls are relayed, and the user is told once."""
    told: list[str] = []
    with temporary_settings({PREFECT_API_URL: wire.url, setting: value}):
        route = route_for(client, say=told.append)
        assert route_for(client, say=told.append).relayed
        written = stripped(serialize_context()["settings_context"], relayed=True)
        with dask.config.set({"daskenv.prefect.route": "direct"}):
            assert not route_for(client, say=told.append).relayed
    assert told == [route.why]
    assert named in route.why
    for text in (repr(route), repr(route.written()), repr(written)):
        assert "secret" not in text
        assert KEY not in text


def test_no_secret_of_a_server_travels(client: Client) -> None:
    """The database's password and address stay, also when the API is asked straight."""
    secrets = {
        PREFECT_SERVER_DATABASE_PASSWORD: "hunter2",
        PREFECT_SERVER_DATABASE_CONNECTION_URL: "postgresql://ada:hunter2@db/prefect",
        PREFECT_API_KEY: KEY,
    }
    with temporary_settings(secrets):
        context = serialize_context()["settings_context"]
    straight = stripped(context, relayed=False)
    assert "hunter2" in repr(context)
    assert "hunter2" not in repr(straight)
    assert straight["settings"]["api"]["key"] == KEY
    assert KEY not in repr(stripped(context, relayed=True))


def test_word_that_is_no_route(client: Client) -> None:
    """The three words are named."""
    with (
        dask.config.set({"daskenv.prefect.route": "tunnel"}),
        pytest.raises(ConfigError, match="auto, direct, relay"),
    ):
        route_for(client)


def test_other_server_at_the_workers_address(client: Client, wire: WireApi) -> None:
    """A server that answers there, and is another than here, is not taken for the API."""
    wire.mark = ""
    with temporary_settings({PREFECT_API_URL: wire.url}):
        route = route_for(client)
    assert route.relayed
    assert "cannot reach it" in route.why


def test_cluster_without_workers(security: Security, wire: WireApi) -> None:
    """Nobody is there to ask, so calls are relayed; it is asked again once somebody is."""
    with (
        LocalCluster(
            n_workers=0, security=security, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        temporary_settings({PREFECT_API_URL: wire.url}),
    ):
        assert "no worker is there yet" in route_for(client).why
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
            assert "cannot be told" in route_for(client).why


def test_workers_in_this_process(wire: WireApi) -> None:
    """Workers that share this process share its way to the API, whatever the settings hold."""
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
        temporary_settings({PREFECT_API_URL: wire.url, PREFECT_API_KEY: KEY}),
    ):
        route = route_for(client)
        assert not route.relayed
        assert client.submit(_settings, route.written()).result(timeout=120) == {}


def _settings(written: dict[str, Any]) -> dict[Any, Any]:
    from distributed import get_worker

    from daskenv_lab.flows.relay.onworker import settings_on

    return settings_on(get_worker(), written)


def test_two_clients_with_two_apis(cluster: LocalCluster, relayed: None, wire: WireApi) -> None:
    """Two notebooks on one cluster each reach their own API with their own key."""
    tokens = set()
    for name in ("one", "two"):
        with Client(cluster, set_as_default=False) as client:
            api, key = f"{wire.url}/{name}", f"key-{name}"
            with temporary_settings({PREFECT_API_URL: api, PREFECT_API_KEY: key}):
                written = route_for(client).written()

            def call(written: dict[str, Any] = written, door: Any = door_of) -> tuple[str, int]:
                import httpx

                url, token = door(written)
                headers = {"Authorization": f"Bearer {token}"}
                return token, httpx.get(f"{url}/x", headers=headers, timeout=120).status_code

            token, status = client.submit(call, pure=False).result(timeout=120)
            assert status == 200
            tokens.add(token)
            _, uri, sent, _ = wire.asked[-1]
            assert uri == f"/api/{name}/x"
            assert sent["authorization"] == f"Bearer {key}"
    assert len(tokens) == 2
