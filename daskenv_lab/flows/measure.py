"""What a flow run used: task runs, bytes, memory and workers over time."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from daskenv_lab.bounded import in_background
from daskenv_lab.errors import ProviderError
from daskenv_lab.flows.recorded import task_runs_of, waits_of, workers_of
from daskenv_lab.flows.recording import PREFIX, Recorder, record_of
from daskenv_lab.flows.room import bytes_sent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daskenv_lab.flows.ends import Waited
    from daskenv_lab.flows.events import TaskEvent
    from daskenv_lab.providers.connection import Connection
    from daskenv_lab.report import ClientWait, TaskRunReport, WorkerReport

T = TypeVar("T")

INTERVAL = 0.5
"""Seconds between two samples of the cluster."""

PATIENCE = 10.0
"""Seconds for which the cluster is waited for; what it does not tell by then stays unmeasured."""

_LOST = (OSError, TimeoutError, ValueError, RuntimeError)
_numbers = itertools.count()


class Measurement:
    """Listens to a flow run, and samples its cluster meanwhile, as a context manager."""

    def __init__(self, connection: Connection) -> None:
        self.waits: list[Waited] = []
        """When the flow's code waited; whoever runs the flow puts the list here."""

        self.bandwidth: float | None = None
        self.start = datetime.now(UTC)
        self.peak_memory: dict[str, int] = {}
        self.cluster_size: list[tuple[float, int]] = []
        self.bytes_moved = 0
        self.duration = 0.0
        self._connection = connection
        self._began = time.monotonic()
        self._task_runs: dict[str, TaskEvent] = {}
        self._order: list[str] = []
        self._submitted: dict[str, float] = {}
        self._batches: dict[str, str] = {}
        self._asked: list[tuple[float, int]] = []
        self._recorder = f"{PREFIX}{next(_numbers)}-{id(self)}"
        self._recorded_from = 0.0
        self._record: dict[str, Any] = {}
        self._sent_before: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample_on, daemon=True)

    def __enter__(self) -> Self:
        self._sent_before = self._sent()
        self._begin_record()
        self._sample()
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.duration = self._seconds()
        self._stop.set()
        self._sampler.join(5)
        self._sample()
        self._end_record()
        sent = self._sent()
        # A worker that is gone at the end took its count with it.
        self.bytes_moved = sum(n - self._sent_before.get(who, 0) for who, n in sent.items())

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def listen(self, event: TaskEvent) -> None:
        """Take note of what happened to a task run."""
        with self._lock:
            if event.what == "submitted":
                self._submitted[event.id] = self._seconds()
                if event.batch is not None:
                    self._batches[event.id] = event.batch
            known = self._task_runs.get(event.id)
            if known is None:
                self._order.append(event.id)
            elif event.what == "submitted":
                return
            elif event.start is None:
                event = replace(event, start=known.start, worker=known.worker)
            self._task_runs[event.id] = event

    @property
    def task_runs(self) -> tuple[TaskRunReport, ...]:
        """All task runs, in the order in which they were submitted."""
        with self._lock:
            events = [self._task_runs[i] for i in self._order]
        calls = self._record.get("calls", {})
        return task_runs_of(events, self._submitted, self._batches, calls, self._recorded_from)

    def client_waits(self, task_runs: Sequence[TaskRunReport]) -> tuple[ClientWait, ...]:
        """When the flow's own code waited, and for which of the task runs."""
        return waits_of(self.waits, task_runs, self._began)

    @property
    def workers(self) -> tuple[WorkerReport, ...]:
        """The workers that were there."""
        return workers_of(self._record.get("workers", ()), self._recorded_from, self._asked)

    def _begin_record(self) -> None:
        client = self._connection.client
        with contextlib.suppress(*_LOST):
            recorder = Recorder(self._recorder, client.id)
            _ask(partial(client.register_plugin, recorder, name=self._recorder))
        self._recorded_from = self._seconds()

    def _end_record(self) -> None:
        if not self._connection.open:
            return
        with contextlib.suppress(*_LOST):
            client = self._connection.client
            told = _ask(partial(client.run_on_scheduler, record_of, name=self._recorder))
            self._record = dict(told or {})
            self.bandwidth = self._record.get("bandwidth")

    def _sample_on(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._sample()

    def _sample(self) -> None:
        with contextlib.suppress(ProviderError):
            info = self._connection.info()
            for worker in info.workers:
                before = self.peak_memory.get(worker.address, 0)
                self.peak_memory[worker.address] = max(before, worker.memory)
            if not self.cluster_size or self.cluster_size[-1][1] != info.n_workers:
                self.cluster_size.append((round(self._seconds(), 3), info.n_workers))
            wanted = (info.target if info.adaptive else info.requested) or 0
            if not self._asked or self._asked[-1][1] != wanted:
                self._asked.append((self._seconds() if self._asked else 0.0, wanted))

    def _sent(self) -> dict[str, int]:
        if not self._connection.open:
            return {}
        with contextlib.suppress(*_LOST):
            told = _ask(partial(self._connection.client.run, bytes_sent, on_error="ignore"))
            return {who: int(n) for who, n in told.items()}
        return {}


def _ask(call: Callable[[], T]) -> T:
    return in_background(call).result(PATIENCE)
