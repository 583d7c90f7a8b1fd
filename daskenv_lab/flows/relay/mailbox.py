"""What workers tell the Prefect API and need no answer to: events and log lines, in the client.

A Prefect server takes some 50 ms of a core to record a task run. As workers that reach the API
themselves do (see `flows.reporting`), the client keeps many of them back until their flow run
ends, so that recording takes no time from the tasks.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import threading
import time
import zlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from daskenv_lab.flows.pace import LOOK, Gathering, Pace, mark_of
from daskenv_lab.flows.relay.prefect_http import ask_once, sync_http_client
from daskenv_lab.flows.reporting import PATIENCE

if TYPE_CHECKING:
    import contextvars

    from daskenv_lab.flows.relay.prefect_http import ApiSettings

_log = logging.getLogger(__name__)

KEPT = 256_000_000
"""Bytes, compressed, that wait for an API which does not answer; the oldest go first."""

HOLD = 60.0
"""Seconds for which many letters are held: less than on workers, as they go with this process."""

AGAIN = 1.0
"""Seconds between two attempts to reach it."""

STUCK = 10.0
"""Seconds after which the end of the process does not wait for an API that takes nothing."""

ENDING = 120.0
"""Seconds for which the end of the process waits at most."""

SILENT = 5.0
"""Seconds after which it says so."""

_TRY_AGAIN = {408, 429}


@dataclass(frozen=True, slots=True)
class _Letter:
    url: httpx.URL
    headers: list[tuple[str, str]]
    items: int
    packed: bytes


class Mailbox:
    """Sends letters to one API, in their order, from a thread of its own.

    Parameters
    ----------
    settings : ApiSettings
        How the API is reached.
    context : contextvars.Context
        Holds Prefect's settings of that API, and nothing of a flow run.
    hold : float
        Seconds for which many letters are held at most.
    """

    def __init__(
        self, settings: ApiSettings, context: contextvars.Context, hold: float = HOLD
    ) -> None:
        self._settings = settings
        self._context = context
        self._letters: deque[_Letter] = deque()
        self._bytes = self._sent = 0
        self._gathering = Gathering(hold)
        self._pace = Pace(1)
        self._empty = threading.Event()
        self._empty.set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failing_since: float | None = None
        self._ended = False

    def take(self, url: httpx.URL, headers: list[tuple[str, str]], body: bytes, items: int) -> None:
        """Take a letter, which holds a JSON list of so many items; it is never refused."""
        letter = _Letter(url, headers, items, zlib.compress(body, 1))
        with self._lock:
            self._empty.clear()
            self._letters.append(letter)
            self._bytes += len(letter.packed)
            lost = 0
            while self._bytes > KEPT:
                lost += self._drop().items
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="daskenv-mailbox", daemon=True
                )
                self._thread.start()
                atexit.register(self.close)
        if lost:
            _log.error("%d events and log lines were lost: too many wait for the API", lost)
        self._gathering.add(items)

    def hurry(self) -> None:
        """Send what there is without waiting for more."""
        if not self._empty.is_set():
            self._gathering.hurry()

    def end(self) -> None:
        """Take no more, and end the thread when all is sent."""
        self._ended = True
        self._gathering.hurry()
        self._gathering.add(0)

    def close(self) -> None:
        """Wait until all is sent, while some is taken; Ctrl-C ends it."""
        atexit.unregister(self.close)
        self.hurry()
        began = time.monotonic()
        progress, seen, said = began, self._sent, False
        while not self._empty.wait(0.1):
            now = time.monotonic()
            if self._sent != seen:
                seen, progress = self._sent, now
            if now - began > SILENT and not said:
                said = True
                _log.warning(
                    "the Prefect API at %s is told the last %d events and log lines; Ctrl-C ends "
                    "the waiting",
                    self._settings.url,
                    self._waiting(),
                )
            if now - progress > STUCK / 2 or now - began > ENDING - STUCK:
                # What the server drops now would be lost with this process anyway.
                self._pace.lift()
            if now - progress > STUCK or now - began > ENDING:
                _log.warning(
                    "the Prefect API at %s was not told all: %d events and log lines are lost, "
                    "and their task runs may be missing or stay Running there",
                    self._settings.url,
                    self._waiting(),
                )
                return

    def _waiting(self) -> int:
        with self._lock:
            return sum(letter.items for letter in self._letters)

    def _work(self) -> None:
        with self._context.run(sync_http_client, self._settings) as http:
            while self._letters or not self._ended:
                self._gathering.wait(lambda: None)
                while self._send_first(http):
                    pass
        atexit.unregister(self.close)

    def _send_first(self, http: httpx.Client) -> bool:
        """Send the oldest letter; tell whether there may be more to send now."""
        with self._lock:
            letter = self._letters[0] if self._letters else None
        if letter is None:
            return False
        try:
            body = zlib.decompress(letter.packed)
            if letter.url.path.endswith("/events"):
                self._await_room(http, letter)
                self._send(http, letter, body)
                self._pace.sent(letter.items, mark_of(body))
            else:
                self._send(http, letter, body)
        except httpx.LocalProtocolError as error:
            _log.warning("what %s was to be sent is not well formed: %s", letter.url, error)
        except Exception as error:  # noqa: BLE001 - whatever answers there, this goes on
            self._note_failure(error)
            return False
        self._failing_since = None
        with self._lock:
            # It may have been dropped meanwhile, since too many came.
            if self._letters and self._letters[0] is letter:
                self._drop()
            self._sent += 1
        return True

    def _send(self, http: httpx.Client, letter: _Letter, body: bytes) -> None:
        """Send a letter; of one that is refused, each item, and let go of those that are."""
        response = ask_once(http, "POST", letter.url, letter.headers, body)
        if response.is_success:
            return
        if response.is_server_error or response.status_code in _TRY_AGAIN:
            response.raise_for_status()
        items = _items(body) if letter.items > 1 else []
        for item in items:
            self._send(http, _Letter(letter.url, letter.headers, 1, b""), item)
        if not items:
            _log.warning(
                "the Prefect API refuses what %s was sent: %d %s",
                letter.url,
                response.status_code,
                response.text[:600],
            )

    def _await_room(self, http: httpx.Client, letter: _Letter) -> None:
        """Wait until the server has recorded enough of what it was sent."""
        api = str(letter.url).removesuffix("/events")
        while mark := self._pace.awaited():
            found = ask_once(http, "GET", f"{api}/task_runs/{mark.task_run_id}", letter.headers)
            if found.is_success and mark.in_record(found.json()):
                self._pace.recorded()
            elif found.is_success or found.status_code == 404:
                time.sleep(LOOK)
            else:
                found.raise_for_status()

    def _note_failure(self, error: Exception) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            _log.warning("the Prefect API does not take events and logs now: %s", error)
        elif now - self._failing_since > PATIENCE:
            with self._lock:
                lost = 0
                while self._letters:
                    lost += self._drop().items
            _log.error("%d events and log lines were lost: %s", lost, error)
            self._failing_since = None
            return
        self._gathering.add(0)
        time.sleep(AGAIN)

    def _drop(self) -> _Letter:
        letter = self._letters.popleft()
        self._bytes -= len(letter.packed)
        if not self._letters:
            self._empty.set()
        return letter


def _items(body: bytes) -> list[bytes]:
    with contextlib.suppress(ValueError):
        if isinstance(told := json.loads(body), list):
            return [json.dumps([item]).encode() for item in told]
    return []
