"""The events that are made here are those that Prefect would make."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect import tags, task
from prefect.events.clients import PrefectEventsClient
from prefect.events.schemas.events import Event
from prefect.events.utilities import emit_event
from prefect.events.worker import EventsWorker
from prefect.exceptions import EventTooLarge
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_EVENTS_MAXIMUM_SIZE_BYTES,
    temporary_settings,
)
from prefect.states import Completed, Failed, Pending, Running
from prefect.utilities import engine as prefects_engine

from daskenv_lab.flows import prefect3
from daskenv_lab.flows.emitting import Emitter
from daskenv_lab.flows.reporting import Reporter
from daskenv_lab.flows.sender import Sender, sender_here

URL = "http://127.0.0.1:9/api"


@pytest.fixture
def sender() -> Iterator[Sender]:
    """Let a sender of ours be where Prefect looks for its own."""
    with temporary_settings({PREFECT_API_URL: URL}):
        reporters: dict[str, Reporter] = {}
        reporters[URL] = Reporter(reporters, hold=60)
        reporters[URL].install()
        EventsWorker.set_client_override(PrefectEventsClient, api_url=URL)
        found = sender_here()
        assert found is not None
        yield found
        EventsWorker.set_client_override(None)
        reporters[URL]._events.clear()
        reporters[URL].close()


@task(retries=2, tags=["two", "one"])
def some(x: int) -> int:
    """Give back the argument."""
    return x


def told() -> list[dict[str, Any]]:
    """List what Prefect's engine tells in the life of some task runs."""
    seen: list[dict[str, Any]] = []
    before = prefects_engine.emit_event
    prefects_engine.emit_event = lambda **given: seen.append(given)
    try:
        with tags("third"):
            run = prefect3.new_task_run(some, parameters={"x": 1}, wait_for=None, dependencies={})
        prefect3.announce(run)
        for state in (Running(), Failed(message="ümlaut\n" * 5), Pending(name="AwaitingRetry")):
            prefect3.tell_state(run, state)
        run.name = "another name"
        prefect3.tell_state(run, Completed(name="Cached", data=1))
    finally:
        prefects_engine.emit_event = before
    return seen


def test_they_are_prefects_own(sender: Sender) -> None:
    """Each event is the same, to the byte, and follows the one before."""
    ours = Emitter(emit_event)
    last: Event | None = None
    events = told()
    assert len(events) == 5
    for given in events:
        made, theirs = (emit(**{**given, "follows": last}) for emit in (ours, emit_event))
        assert made is not None
        assert theirs is not None
        assert made.model_dump_json() == theirs.model_dump_json()
        assert made.follows == (last.id if last else None)
        assert [r.id for r in made.involved_resources] == [r.id for r in theirs.involved_resources]
        last = made


@pytest.mark.parametrize("minutes", [-6, -5, -4.99, 4.99, 5, 6])
def test_only_what_is_near_is_followed(sender: Sender, minutes: float) -> None:
    """As with Prefect, nothing follows what was minutes before or after."""
    given = told()[0]
    first = emit_event(**given)
    assert first is not None
    later = {
        **given,
        "id": uuid4(),
        "occurred": first.occurred + timedelta(minutes=minutes),
        "follows": first,
    }
    made, theirs = Emitter(emit_event)(**later), emit_event(**later)
    assert made is not None
    assert theirs is not None
    assert made.follows == theirs.follows
    assert (made.follows is None) is (abs(minutes) >= 5)


def test_one_that_is_too_large_is_refused(sender: Sender) -> None:
    """As with Prefect, the engine hears of it."""
    given = told()[0]
    with temporary_settings({PREFECT_SERVER_EVENTS_MAXIMUM_SIZE_BYTES: 100}):
        for emit in (emit_event, Emitter(emit_event)):
            with pytest.raises(EventTooLarge):
                emit(**given)


def test_one_that_cannot_be_written_ends_no_task_run(sender: Sender) -> None:
    """As with Prefect, it is logged, and the engine goes on."""
    given = {**told()[0], "payload": {"x": object()}}
    assert [emit(**given) for emit in (emit_event, Emitter(emit_event))] == [None, None]


def test_a_sender_that_fails_ends_no_task_run() -> None:
    """As with Prefect, the engine goes on."""

    def fail(_: Event) -> None:
        raise RuntimeError("the worker is closing")

    reporters: dict[str, Reporter] = {}
    with temporary_settings({PREFECT_API_URL: URL}):
        reporter = Reporter(reporters, hold=60, knows=lambda _: False, tell_client=fail)
        reporters[URL] = reporter
        reporter.install()
        EventsWorker.set_client_override(PrefectEventsClient, api_url=URL)
        try:
            given = told()[0]
            assert [emit(**given) for emit in (emit_event, Emitter(emit_event))] == [None, None]
        finally:
            EventsWorker.set_client_override(None)
            reporter._events.clear()
            reporter.close()


def test_other_senders_get_theirs() -> None:
    """What is not for our sender goes the way that it went before."""
    seen: list[dict[str, Any]] = []
    with temporary_settings({PREFECT_API_URL: URL}):
        assert sender_here() is None
        Emitter(lambda **given: seen.append(given))(**told()[0])
    assert [given["event"] for given in seen] == ["prefect.task-run.Pending"]


def test_what_is_not_known_goes_to_prefect(sender: Sender) -> None:
    """A later Prefect may give its function more."""
    seen: list[dict[str, Any]] = []
    Emitter(lambda **given: seen.append(given))(**told()[0], more=1)
    assert seen[0]["more"] == 1
