"""What the client is to tell the API: kept back while many come, and told in the end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from daskenv_lab.flows.pace import LOOK, MANY, UNRECORDED
from daskenv_lab.flows.relay.mailbox import Mailbox
from daskenv_lab.flows.relay.prefect_http import api_settings, settings_alone
from tests.flows.posted import Api
from tests.waiting import until

LEAVES = """
import json, sys
import httpx
from prefect.settings import PREFECT_API_URL, temporary_settings
from daskenv_lab.flows.relay.mailbox import Mailbox
from daskenv_lab.flows.relay.prefect_http import api_settings, settings_alone

with temporary_settings({PREFECT_API_URL: sys.argv[1]}):
    mailbox = Mailbox(api_settings(), settings_alone())
for number in range(500):
    mailbox.take(httpx.URL(sys.argv[1] + "/events"), [], json.dumps([number]).encode(), 50)
"""

RUNNING = {
    "event": "prefect.task-run.Running",
    "resource": {"prefect.resource.id": f"prefect.task-run.{UUID(int=1)}"},
    "occurred": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def wire() -> Iterator[Api]:
    """Give a server."""
    with Api() as api:
        yield api


@pytest.fixture
def mailbox(wire: Api) -> Iterator[Mailbox]:
    """Give a mailbox for that server."""
    with temporary_settings({PREFECT_API_URL: wire.url}):
        mailbox = Mailbox(api_settings(), settings_alone())
    yield mailbox
    mailbox.end()


def put(mailbox: Mailbox, wire: Api, items: list[Any], path: str = "/events") -> None:
    """Put a list of events or log lines into it."""
    body = json.dumps(items).encode()
    mailbox.take(httpx.URL(wire.url + path), [("X-Own", "1")], body, len(items))


def taken(wire: Api) -> list[Any]:
    """List what the server has taken, in order."""
    return [item for batch in wire.taken("/events") for item in batch]


def test_few_are_sent_soon(wire: Api, mailbox: Mailbox) -> None:
    """And log lines go where log lines go."""
    put(mailbox, wire, ["a", "b"])
    put(mailbox, wire, ["line"], "/logs/")
    until(lambda: wire.posts == [("/events", ["a", "b"]), ("/logs", ["line"])])


def test_many_are_held_until_they_are_let_go(wire: Api, mailbox: Mailbox) -> None:
    """In the order in which they came, and before those that come later."""
    for number in range(20):
        put(mailbox, wire, [number] * MANY)
        time.sleep(0.05)
    assert wire.posts == []
    mailbox.hurry()
    put(mailbox, wire, ["later"])
    until(lambda: taken(wire)[-1:] == ["later"])
    assert taken(wire)[:-1] == [number for number in range(20) for _ in range(MANY)]


def test_one_that_is_refused_does_not_hold_up_the_others(wire: Api, mailbox: Mailbox) -> None:
    """A list with something that the API does not take is sent one by one."""
    wire.status = lambda path, items: 422 if 2 in items else 201
    put(mailbox, wire, [0, 1, 2, 3])
    put(mailbox, wire, [2])
    put(mailbox, wire, [4])
    until(lambda: taken(wire) == [0, 1, 3, 4])


def test_one_that_is_no_request_is_let_go(wire: Api, mailbox: Mailbox) -> None:
    """The next one is sent all the same."""
    mailbox.take(httpx.URL(wire.url + "/events"), [("X-Own", "a\r\nb")], b"[0]", 1)
    put(mailbox, wire, [1])
    until(lambda: taken(wire) == [1])


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_what_the_api_did_not_take_is_sent_again(wire: Api, mailbox: Mailbox, status: int) -> None:
    """While the API is down nothing is lost."""
    down = True
    wire.status = lambda path, items: status if down else 201
    put(mailbox, wire, ["a"])
    until(lambda: wire.posts)
    put(mailbox, wire, ["b"])
    down = False
    until(lambda: taken(wire)[-1:] == ["b"])
    assert set(taken(wire)) == {"a", "b"}


def test_a_process_that_ends_tells_all_before(wire: Api) -> None:
    """Though much was held."""
    subprocess.run([sys.executable, "-c", LEAVES, wire.url], check=True, timeout=120)
    assert taken(wire) == list(range(500))


@pytest.mark.slow
def test_a_process_whose_api_is_gone_ends(wire: Api) -> None:
    """Within seconds, with a sentence."""
    wire.status = lambda path, items: 503
    ended = subprocess.run(
        [sys.executable, "-c", LEAVES, wire.url],
        check=True,
        timeout=60,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert f"the Prefect API at {wire.url} was not told all" in ended.stderr


def test_no_more_is_sent_than_the_server_has_room_for(wire: Api, mailbox: Mailbox) -> None:
    """As workers do that reach the API themselves; the pace is the same."""
    for _ in range(3 * UNRECORDED // 100):
        put(mailbox, wire, [RUNNING] * 100)
    mailbox.hurry()
    until(lambda: len(taken(wire)) >= UNRECORDED)
    time.sleep(4 * LOOK)
    assert len(taken(wire)) == UNRECORDED
    wire.recorded = "2026-01-01T00:00:01Z"
    until(lambda: len(taken(wire)) == 3 * UNRECORDED)


def test_the_end_of_the_process_waits_for_the_record(wire: Api, mailbox: Mailbox) -> None:
    """What the server would drop is not sent before it has room for it."""
    for _ in range(2 * UNRECORDED // 100):
        put(mailbox, wire, [RUNNING] * 100)
    closing = threading.Thread(target=mailbox.close)
    closing.start()
    until(lambda: len(taken(wire)) >= UNRECORDED)
    time.sleep(4 * LOOK)
    assert len(taken(wire)) == UNRECORDED
    wire.recorded = "2026-01-01T00:00:01Z"
    closing.join(60)
    assert len(taken(wire)) == 2 * UNRECORDED


def test_the_end_of_the_process_sends_all(wire: Api, mailbox: Mailbox) -> None:
    """It does not wait for long for a server that records nothing."""
    for _ in range(2 * UNRECORDED // 100):
        put(mailbox, wire, [RUNNING] * 100)
    mailbox.close()
    assert len(taken(wire)) == 2 * UNRECORDED
