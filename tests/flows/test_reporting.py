"""Events and logs of a worker's task runs on their way to the API, seen on the wire."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect.events import Event
from prefect.settings import PREFECT_API_URL, temporary_settings

from daskenv_lab.flows.leaving import leave_rooms
from daskenv_lab.flows.pace import LOOK, MANY, PAUSE, UNRECORDED
from daskenv_lab.flows.reporters import REPORTERS
from daskenv_lab.flows.reporting import EVENTS_AT_ONCE, HOLD_LOGS, KEPT, SENDERS, Reporter
from tests.flows.posted import Api
from tests.waiting import until


@pytest.fixture
def wire() -> Iterator[Api]:
    """Give a server."""
    with Api() as api:
        yield api


@pytest.fixture
def reporter(wire: Api) -> Iterator[Reporter]:
    """Give a reporter to that server."""
    with temporary_settings({PREFECT_API_URL: wire.url}):
        reporter = Reporter({})
    yield reporter
    reporter.close()


def event(number: int) -> Event:
    """Make an event."""
    return Event(event=f"test.{number}", resource={"prefect.resource.id": f"test.{number}"})


def line(text: str) -> dict[str, Any]:
    """Make a log line, as Prefect's handler gives it."""
    return {"message": text, "__payload_size__": len(text)}


def test_what_gathers_is_sent_together_and_in_order(wire: Api, reporter: Reporter) -> None:
    """Many events and log lines make few requests, each a list of at most so many."""
    for number in range(EVENTS_AT_ONCE + 50):
        reporter.take_event(event(number))
    for number in range(30):
        reporter.take_log(line(f"line {number}"))
    until(lambda: not reporter.pending)
    sent = wire.taken("/events")
    assert [len(batch) for batch in sent] == [EVENTS_AT_ONCE, 50]
    names = [told["event"] for batch in sent for told in batch]
    assert names == [f"test.{number}" for number in range(EVENTS_AT_ONCE + 50)]
    (lines,) = wire.taken("/logs")
    assert lines == [{"message": f"line {number}"} for number in range(30)]


def test_one_that_is_refused_does_not_hold_up_the_others(wire: Api, reporter: Reporter) -> None:
    """A batch with an event that the API does not take is sent one by one."""
    wire.status = lambda path, items: 422 if any(t["event"] == "test.2" for t in items) else 201
    for number in range(5):
        reporter.take_event(event(number))
    until(lambda: not reporter.pending)
    taken = [told["event"] for batch in wire.taken("/events") for told in batch]
    assert taken == ["test.0", "test.1", "test.3", "test.4"]


def test_what_the_api_did_not_take_is_sent_again(wire: Api, reporter: Reporter) -> None:
    """While the API is down nothing is lost, neither events nor log lines."""
    down = True
    wire.status = lambda path, items: 503 if down else 201
    reporter.take_event(event(1))
    reporter.take_log(line("kept"))
    until(lambda: wire.posts)
    down = False
    reporter.take_event(event(2))
    until(lambda: not reporter.pending)
    taken = [told["event"] for batch in wire.taken("/events") for told in batch]
    assert taken == ["test.1", "test.2"]
    assert [told for batch in wire.taken("/logs") for told in batch] == [{"message": "kept"}]


def test_a_server_that_talks_nonsense_is_tried_again(wire: Api, reporter: Reporter) -> None:
    """Whatever answers, the sender goes on, and sends when there is an API again."""
    wire.token_status = 200
    reporter.take_event(event(1))
    time.sleep(1.5)
    assert reporter.pending == 1
    assert wire.posts == []
    wire.token_status = 404
    until(lambda: not reporter.pending)
    assert [[told["event"] for told in batch] for batch in wire.taken("/events")] == [["test.1"]]


def test_what_is_left_at_the_end_is_sent(wire: Api, reporter: Reporter) -> None:
    """Closing does not wait for more."""
    reporter.take_event(event(1))
    reporter.close()
    assert [[told["event"] for told in batch] for batch in wire.taken("/events")] == [["test.1"]]


def test_many_events_are_held_until_they_are_let_go(wire: Api, reporter: Reporter) -> None:
    """While more and more come nothing is sent; the end of a flow run lets all go."""
    until(lambda: told_for(reporter, 1.5) and reporter.pending)
    assert wire.posts == []
    reporter.hurry()
    until(lambda: not reporter.pending)
    assert sum(len(batch) for batch in wire.taken("/events")) > 10 * MANY


def test_what_comes_while_the_last_is_sent_is_sent_too(wire: Api, reporter: Reporter) -> None:
    """An end that falls into the sending loses nothing."""
    sending, more = threading.Event(), threading.Event()

    def status(path: str, items: list[Any]) -> int:
        sending.set()
        return 201 if more.wait(30) else 500

    wire.status = status
    reporter.take_log(line("one"))
    assert sending.wait(30)
    reporter.take_log(line("two"))
    closing = threading.Thread(target=reporter.close)
    closing.start()
    time.sleep(0.2)
    more.set()
    closing.join(30)
    assert [told for batch in wire.taken("/logs") for told in batch] == [
        {"message": "one"},
        {"message": "two"},
    ]


def test_one_that_has_closed_takes_no_more(wire: Api) -> None:
    """What this process logs afterwards goes the way that it goes without."""
    reporters: dict[str, Reporter] = {}
    with temporary_settings({PREFECT_API_URL: wire.url}):
        reporter = reporters[wire.url] = Reporter(reporters)
    reporter.close()
    assert reporters == {}


def test_what_nobody_else_can_tell_is_not_held(wire: Api) -> None:
    """The client knows how calls ended, and of nothing else that a worker's tasks do."""
    with temporary_settings({PREFECT_API_URL: wire.url}):
        reporter = Reporter({}, knows=lambda task_run_id: task_run_id != "test.0")
    try:
        assert told_for(reporter, HOLD_LOGS + 2 * PAUSE + 1)
        assert wire.posts
    finally:
        reporter.close()


def test_log_lines_do_not_wait_for_many_events(wire: Api, reporter: Reporter) -> None:
    """They are sent after a few seconds while the events are held."""
    reporter.take_log(line("early"))
    assert told_for(reporter, HOLD_LOGS + 2 * PAUSE + 1)
    assert wire.posts == [("/logs", [{"message": "early"}])]
    assert reporter.pending > MANY


def test_many_events_are_not_held_for_longer(wire: Api) -> None:
    """What has come in for as long as events are held is sent, though more come."""
    with temporary_settings({PREFECT_API_URL: wire.url}):
        impatient = Reporter({}, hold=1)
    try:
        until(lambda: told_for(impatient, 0.5) and wire.posts)
    finally:
        impatient.close()


def told_for(reporter: Reporter, seconds: float) -> bool:
    """Let events come in fast for a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for number in range(MANY):
            reporter.take_event(event(number))
        time.sleep(0.05)
    return True


def about_task_run(number: int) -> Event:
    """Make an event that the server records."""
    resource = {"prefect.resource.id": f"prefect.task-run.{UUID(int=number)}"}
    occurred = datetime.fromtimestamp(number, UTC)
    return Event(event="prefect.task-run.Running", resource=resource, occurred=occurred)


def test_no_more_is_sent_than_the_server_has_room_for(wire: Api, reporter: Reporter) -> None:
    """It drops what it cannot keep; it is sent more when it has recorded what came before."""
    room = UNRECORDED // SENDERS
    for number in range(3 * room):
        reporter.take_event(about_task_run(number))
    reporter.hurry()
    until(lambda: sent(wire) >= room)
    time.sleep(4 * LOOK)
    assert sent(wire) <= room + EVENTS_AT_ONCE
    # It has recorded half of it, and so has room for as many.
    wire.recorded = datetime.fromtimestamp(room * 0.7, UTC).isoformat()
    until(lambda: sent(wire) > 1.5 * room)
    time.sleep(4 * LOOK)
    assert sent(wire) < 2.5 * room
    wire.recorded = datetime.fromtimestamp(3 * room, UTC).isoformat()
    until(lambda: not reporter.pending)
    assert sent(wire) == 3 * room


def test_before_its_end_a_worker_sends_all(wire: Api, reporter: Reporter) -> None:
    """What the server may drop would be lost with the worker anyway."""
    for number in range(3 * UNRECORDED // SENDERS):
        reporter.take_event(about_task_run(number))
    reporter.hurry()
    until(lambda: wire.posts)
    reporter.hurry(last=True)
    until(lambda: not reporter.pending)
    assert sent(wire) == 3 * UNRECORDED // SENDERS


def test_a_worker_that_ends_tells_all_as_fast_as_it_is_recorded(
    wire: Api, reporter: Reporter
) -> None:
    """At the end of its last flow run; what the server would drop is not sent before."""
    room = UNRECORDED // SENDERS
    for number in range(3 * room):
        reporter.take_event(about_task_run(number))
    worker = SimpleNamespace(**{REPORTERS: {wire.url: reporter}})
    with ThreadPoolExecutor() as thread:
        leaving = thread.submit(asyncio.run, leave_rooms(worker, "run", last=True))
        until(lambda: sent(wire) >= room)
        time.sleep(4 * LOOK)
        assert sent(wire) <= room + EVENTS_AT_ONCE
        wire.recorded = datetime.fromtimestamp(3 * room, UTC).isoformat()
        assert leaving.result(60) == math.inf
    assert sent(wire) == 3 * room


@pytest.mark.slow
def test_a_worker_that_ends_says_what_it_could_not_tell(wire: Api, reporter: Reporter) -> None:
    """The client tells the API instead."""
    wire.status = lambda path, items: 503
    reporter.take_event(about_task_run(100))
    worker = SimpleNamespace(**{REPORTERS: {wire.url: reporter}})
    assert asyncio.run(leave_rooms(worker, "run", last=True)) == 100


def test_what_has_not_been_sent_is_known(wire: Api, reporter: Reporter) -> None:
    """By the time of its oldest event, also of one that is on its way."""
    before = time.time()
    assert reporter.told_until >= before
    answer = threading.Event()
    wire.status = lambda path, items: 201 if answer.wait(60) else 503
    reporter.take_event(about_task_run(100))
    assert reporter.told_until == 100
    until(lambda: wire.posts)
    reporter.take_event(about_task_run(200))
    assert reporter.told_until == 100
    answer.set()
    until(lambda: not reporter.pending)
    assert reporter.told_until >= before


@pytest.mark.slow
def test_where_very_many_wait_the_next_one_waits_too(wire: Api, reporter: Reporter) -> None:
    """Until the API has taken some: none is dropped while it answers."""
    answer = threading.Event()
    wire.status = lambda path, items: 201 if answer.wait(60) else 503
    one = event(1)
    for _ in range(KEPT):
        reporter.take_event(one)
    until(lambda: wire.posts)
    taken = reporter.pending
    with ThreadPoolExecutor() as thread:
        rest = thread.submit(lambda: [reporter.take_event(one) for _ in range(EVENTS_AT_ONCE + 1)])
        time.sleep(4 * LOOK)
        assert not rest.done()
        answer.set()
        rest.result(60)
    until(lambda: not reporter.pending)
    assert sent(wire) == taken + EVENTS_AT_ONCE + 1


def test_events_that_no_record_is_made_of_are_not_waited_for(wire: Api, reporter: Reporter) -> None:
    """There is nothing to ask the server for."""
    for number in range(3 * UNRECORDED // SENDERS):
        reporter.take_event(event(number))
    reporter.hurry()
    until(lambda: not reporter.pending)
    assert sent(wire) == 3 * UNRECORDED // SENDERS


def sent(wire: Api) -> int:
    """Count the events that the server has taken."""
    return sum(len(batch) for batch in wire.taken("/events"))
