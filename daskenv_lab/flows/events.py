"""What happens to task runs, told while it happens: progress and measurement only listen."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from distributed.client import ClosedClientError

from daskenv_lab.flows.room import TOPIC
from daskenv_lab.providers.onscheduler import STOP

if TYPE_CHECKING:
    import distributed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent:
    """One thing that happened to one task run."""

    what: Literal["submitted", "started", "ended", "nested"]
    """The last is any change of a task run that runs inside another; see `nested`."""

    id: str
    name: str
    task: str
    state: str
    """The name of the task run's state after it."""

    start: datetime | None = None
    """When it began on a worker, in UTC; of a nested one, when it came into its state."""

    duration: float | None = None
    """Seconds on the worker, once it ended."""

    worker: str | None = None

    batch: str | None = None
    """Of one that was submitted in a batch: the id of the batch's first."""

    cpu: float | None = None
    """Cores that it kept busy on average, once it ended."""

    memory: int | None = None
    """Bytes by which its worker's process grew meanwhile, once it ended."""

    written: bytes | None = None
    """The state in which it ended; of one that another task submitted the task run at its start.

    Pickled, and squeezed by what the flow run's task runs have in common; of a nested one, what
    `nested.read` reads.
    """

    @property
    def end(self) -> float | None:
        """When its worker was done with it, in epoch seconds of the worker's clock."""
        if self.start is None or self.duration is None:
            return None
        return self.start.timestamp() + self.duration


Listener = Callable[[TaskEvent], None]
"""Told each event, in the thread in which it comes in; it must be quick."""


class Feed:
    """Passes what workers tell on to the listeners of each flow run.

    One client may serve several flow runs at once, and Dask keeps one handler for each topic.
    """

    def __init__(self, client: distributed.Client) -> None:
        self.left: set[str] = set()
        """The workers that have closed, and had told the API everything."""

        self.told_until: dict[str, float] = {}
        """Up to when each worker had told the API all, in epoch seconds of its clock."""

        self.stops: set[Callable[[], None]] = set()
        """Called when the cluster's flow runs are asked to end; they must be quick."""

        self._handlers: dict[str, Listener] = {}
        self._heard_over: Any = None
        self.listen(client)

    def listen(self, client: distributed.Client) -> None:
        """Hear of the topics, also after the client's connection was broken and opened again."""
        if self._heard_over is not client.scheduler_comm:
            self._heard_over = client.scheduler_comm
            # Of a client that has closed there is nothing more to hear.
            with contextlib.suppress(ClosedClientError):
                client.subscribe_topic(TOPIC, self._on_event)
                client.subscribe_topic(STOP, self._on_stop)

    def add(self, run_id: str, listener: Listener) -> None:
        """Let a listener hear of a flow run's task runs."""
        self._handlers[run_id] = listener

    def remove(self, run_id: str) -> None:
        """Let a listener go."""
        self._handlers.pop(run_id, None)

    def _on_stop(self, _: object) -> None:
        for stop in list(self.stops):
            stop()

    def _on_event(self, event: tuple[float, Mapping[str, Any]]) -> None:
        told = event[1]
        if "left" in told:
            self.left.add(told["left"])
            return
        # Another worker may have the address of one that left.
        self.left.discard(told["worker"])
        listener = self._handlers.get(told["run"])
        if listener is None:
            return
        self.told_until[told["worker"]] = told["told_until"]
        for one in told["task_runs"]:
            try:
                listener(
                    TaskEvent(
                        what=one["what"],
                        id=one["id"],
                        name=one["name"],
                        task=one["task"],
                        state=one.get("state", "Running"),
                        start=datetime.fromtimestamp(one["start"], UTC),
                        duration=one.get("seconds"),
                        worker=told["worker"],
                        cpu=one.get("cpu"),
                        memory=one.get("memory"),
                        written=one.get("written"),
                    )
                )
            except Exception:  # noqa: BLE001 - it is logged; the run goes on
                _log.exception("a listener of task runs failed")


_feeds: weakref.WeakKeyDictionary[distributed.Client, Feed] = weakref.WeakKeyDictionary()
_feeds_lock = threading.Lock()


def feed_of(client: distributed.Client) -> Feed:
    """Give the one feed of a client."""
    with _feeds_lock:
        if client not in _feeds:
            _feeds[client] = Feed(client)
        _feeds[client].listen(client)
        return _feeds[client]
