"""Telling the Prefect API, from a worker, what its task runs do: events and logs, in batches.

Prefect hands each event and each log line to threads of its own at once, which on a worker costs
more than running a small task: every one of them wakes threads that then wait for each other.
Here they are put on a list, and one thread sends what has gathered.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import logging
import sys
import threading
import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any

import cloudpickle
import httpx
import orjson
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_BATCH_SIZE
from prefect.utilities.context import temporary_context

from daskenv_lab.flows.pace import LOOK, Gathering, Pace, mark_of
from daskenv_lab.flows.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.events.schemas.events import Event

ITEMS = "X-Daskenv-Items"
"""The header by which the relay knows what needs no answer: the number of events or log lines."""

HOLD = 180.0
"""Seconds for which events are held at most, so that recording takes no time from the tasks.

Ten thousand small task runs take two minutes on two slow cores, and twice that beside a server
that records them there.

The end of their flow run lets them go. If this process is killed meanwhile, the client tells the
API how its task runs ended. What goes through the client is held there.
"""

HOLD_LOGS = 5.0
"""The same for log lines, which nobody else can tell, and which a server writes down at once."""

EVENTS_AT_ONCE = 200
"""Events in one request; one takes about 2 kB."""

SENDERS = 4
"""Workers that are reckoned with at least, since more may join."""

KEPT = 50_000
"""Events, and log lines, that wait at most; of an API that does not answer the oldest go first."""

PATIENCE = 60.0
"""Seconds for which an API that does not answer is tried again."""

CLOSING = 3.0
"""Seconds that the end of a worker waits for what is still to be sent."""

_log = logging.getLogger("distributed.worker.daskenv")


class _Told:
    """An event on its way: as JSON once what it is about has been named, and in little memory.

    Before that with the context in which it was told, which may hold whatever its task does.
    """

    __slots__ = ("occurred", "open", "packed")

    def __init__(self, event: Event) -> None:
        # Pendulum's own way takes ten times as long.
        self.occurred = datetime.timestamp(event.occurred)
        self.packed = b""
        self.open: tuple[Event, contextvars.Context] | None = (event, contextvars.copy_context())

    def pack(self, event: Event) -> None:
        """Keep what is sent, and nothing else."""
        self.packed = event.model_dump_json().encode()
        self.open = None


class Reporter:
    """Sends the events and the log lines of this process to one API.

    It is made in the context of a flow run, whose settings say how the API is reached.

    Parameters
    ----------
    reporters : dict
        All reporters of the worker, by the API's address.
    hold : float
        Seconds for which many events are held; 0 where they go through the client, which holds
        them itself.
    workers : int
        How many workers tell the API of their task runs at once, as far as is known.
    knows : callable
        Tells of a task run's id whether the client could tell the API of it again.
    tell_client : callable
        Tells the client of an event for which `knows` gives False.
    """

    def __init__(
        self,
        reporters: dict[str, Reporter],
        hold: float = HOLD,
        workers: int = 1,
        knows: Callable[[str], bool] = bool,
        tell_client: Callable[[Event], object] = bool,
    ) -> None:
        self._hold = hold
        self._knows_run = knows
        self._tell_client = tell_client
        self._reporters = reporters
        self._url = str(PREFECT_API_URL.value())
        self._pace = Pace(max(workers, SENDERS))
        if not hold:
            # The client, through which they go, sees to the pace.
            self._pace.lift()
        self._events: deque[_Told] = deque(maxlen=KEPT)
        self._logs: deque[tuple[int, dict[str, Any]]] = deque(maxlen=KEPT)
        self._sender = Sender(reporters, self._url)
        self._log_bytes = PREFECT_LOGGING_TO_API_BATCH_SIZE.value() // 2
        self._gathering = Gathering(hold)
        self._sending = threading.Lock()
        self._under_way = 0
        self._sending_from: float | None = None
        self._alone_from: float | None = None
        """Since when an event waits that the client cannot tell again, by `time.monotonic`."""

        self._logs_from = 0.0
        """Since when the oldest log line waits, by `time.monotonic`."""

        self._failing_since: float | None = None
        self._closed = False
        self._runner = asyncio.Runner()
        self._context = contextvars.copy_context()
        self._thread = threading.Thread(target=self._work, name="daskenv-reporter", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def pending(self) -> int:
        """How many events and log lines the API has not been sent yet."""
        return len(self._events) + len(self._logs) + self._under_way

    @property
    def told_until(self) -> float:
        """The time, in epoch seconds, of the oldest event that the API has not taken; or now."""
        now = time.time()
        try:
            oldest = self._events[0].occurred
        except IndexError:
            oldest = now
        # It is looked at after the list, as it is set before what is sent leaves the list.
        sending = self._sending_from
        return oldest if sending is None else min(oldest, sending)

    def take_event(self, event: Event) -> None:
        """Take an event; if very many wait, when the API has taken some."""
        while len(self._events) >= KEPT and self._failing_since is None and not self._closed:
            self.hurry()
            time.sleep(LOOK)
        if not self._knows(event):
            self._alone_from = self._alone_from or time.monotonic()
            self._tell_client(event)
        told = _Told(event)
        if known := self._sender.relate_as_before(event):
            told.pack(event)
        self._events.append(told)
        self._gathering.add()
        if not known and self._sender.is_first(event):
            # What is told of its flow run after it can then be packed at once.
            self.hurry()

    def take_log(self, log: dict[str, Any]) -> None:
        """Take a log line, as Prefect's handler has prepared it."""
        if not self._logs:
            self._logs_from = time.monotonic()
        self._logs.append((log.pop("__payload_size__", 0), log))
        self._gathering.add(0)

    def hurry(self, *, last: bool = False) -> None:
        """Send what there is without waiting for more; before the `last` end, at any pace."""
        if last:
            self._pace.lift()
        self._gathering.hurry()

    def install(self) -> None:
        """Take the place of Prefect's own sender of events, for what is told to this API."""
        self._sender.put_in_place()

    def flush(self) -> None:
        """Send what there is, in the caller's thread."""
        with self._sending:
            self._context.run(self._runner.run, self._send_all())

    def close(self) -> None:
        """Send what there is, and end."""
        atexit.unregister(self.close)
        self._closed = True
        self._pace.lift()
        self._gathering.add(0)
        self._gathering.hurry()
        self._thread.join(CLOSING)
        self._sender.remove()
        if self._reporters.get(self._url) is self:
            del self._reporters[self._url]

    def _knows(self, event: Event) -> bool:
        return self._knows_run(event.resource.id.removeprefix("prefect.task-run."))

    def _work(self) -> None:
        while not self._closed:
            self._gathering.wait(self._send_old)
            self.flush()
        # What came in during the last one.
        self.flush()
        with self._sending, contextlib.suppress(httpx.HTTPError, RuntimeError):
            if self._sender.client is not None:
                self._runner.run(self._sender.client.__aexit__(None, None, None))
            self._runner.close()

    def _send_old(self) -> None:
        """Send what nobody else can tell and has waited, while events are held."""
        old = time.monotonic() - HOLD_LOGS
        if self._alone_from is not None and self._alone_from < old:
            self.flush()
        elif self._logs and self._logs_from < old:
            with self._sending:
                self._context.run(self._runner.run, self._send_all(logs_only=True))

    async def _send_all(self, *, logs_only: bool = False) -> None:
        """Send what there is now; what comes in meanwhile gathers for the next time."""
        left = 0 if logs_only else len(self._events), len(self._logs)
        if not logs_only:
            self._alone_from = None
        while any(left):
            most = min(EVENTS_AT_ONCE, self._pace.most)
            self._sending_from = self._events[0].occurred if left[0] else None
            events = [self._events.popleft() for _ in range(min(left[0], most))]
            logs = self._next_logs(left[1])
            left = left[0] - len(events), left[1] - len(logs)
            self._under_way = len(events) + len(logs)
            try:
                if self._sender.client is None:
                    self._sender.client = await get_client().__aenter__()
                await self._send("/logs/", [orjson.dumps(log) for _, log in logs])
                logs.clear()
                await self._send_events(events)
                self._failing_since = None
            except Exception as error:  # noqa: BLE001 - whatever answers there, this goes on
                self._events.extendleft(reversed(events))
                self._logs.extendleft(reversed(logs))
                self._note_failure(error)
                return
            finally:
                self._under_way = 0
                self._sending_from = None

    async def _send_events(self, events: list[_Told]) -> None:
        for told in events:
            if told.open is not None:
                event, context = told.open
                with temporary_context(context=context):
                    await self._sender.relate(event)
                told.pack(event)
        if not events:
            return
        items = [told.packed for told in events]
        await self._room_for_more()
        await self._send("/events", items)
        self._pace.sent(len(items), mark_of(b"[" + items[-1] + b"]"))

    async def _room_for_more(self) -> None:
        """Wait until the server has recorded enough of what it was sent."""
        while mark := self._pace.awaited():
            try:
                path: Any = f"/task_runs/{mark.task_run_id}"
                answer = await self._sender.client.request("GET", path)
            except PrefectHTTPStatusError as error:
                if error.response.status_code != 404:
                    raise
            else:
                if mark.in_record(answer.json()):
                    self._pace.recorded()
                    continue
            await asyncio.sleep(LOOK)

    def _next_logs(self, left: int) -> list[tuple[int, dict[str, Any]]]:
        taken: list[tuple[int, dict[str, Any]]] = []
        size = 0
        while len(taken) < left and size < self._log_bytes:
            taken.append(self._logs.popleft())
            size += taken[-1][0]
        return taken

    async def _send(self, path: Any, items: list[bytes]) -> None:
        """Send a batch; of one that is refused, send each, and let go of those that are refused."""
        if not items:
            return
        content = b"[" + b",".join(items) + b"]"
        headers = {"Content-Type": "application/json"}
        if not self._hold:
            headers[ITEMS] = str(len(items))
        try:
            await self._sender.client.request("POST", path, content=content, headers=headers)
        except PrefectHTTPStatusError as error:
            code = error.response.status_code
            if code >= 500 or code in (408, 429):
                raise
            # 410 comes from the relay, whose client is gone; there is nobody left to tell.
            if len(items) > 1 and code != 410:
                for item in items:
                    await self._send(path, [item])
            elif code != 410:
                _log.warning("the Prefect API refuses what %s was sent: %s", path, error)

    def _note_failure(self, error: Exception) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            _log.warning("the Prefect API does not take events and logs now: %s", error)
        elif now - self._failing_since > PATIENCE:
            _log.error("%d events and log lines were lost: %s", self.pending, error)
            self._events.clear()
            self._logs.clear()
            self._failing_since = None
        if not self._closed:
            self._gathering.add(0)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
