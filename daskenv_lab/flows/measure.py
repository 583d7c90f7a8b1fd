"""What a flow run used: task runs, bytes, memory and workers over time."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from daskenv_lab.errors import ProviderError
from daskenv_lab.flows.room import bytes_sent
from daskenv_lab.report import TaskRunReport

if TYPE_CHECKING:
    from daskenv_lab.flows.events import TaskEvent
    from daskenv_lab.providers.connection import Connection

INTERVAL = 0.5
"""Seconds between two samples of the cluster."""


class Measurement:
    """Listens to a flow run, and samples its cluster meanwhile, as a context manager."""

    def __init__(self, connection: Connection) -> None:
        self.start = datetime.now(UTC)
        self.peak_memory: dict[str, int] = {}
        self.cluster_size: list[tuple[float, int]] = []
        self.bytes_moved = 0
        self.duration = 0.0
        self._connection = connection
        self._began = time.monotonic()
        self._task_runs: dict[str, TaskEvent] = {}
        self._order: list[str] = []
        self._sent_before: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample_on, daemon=True)

    def __enter__(self) -> Self:
        self._sent_before = self._sent()
        self._sample()
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.duration = self._seconds()
        self._stop.set()
        self._sampler.join(5)
        self._sample()
        sent = self._sent()
        # A worker that is gone at the end took its count with it.
        self.bytes_moved = sum(n - self._sent_before.get(who, 0) for who, n in sent.items())

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def listen(self, event: TaskEvent) -> None:
        """Take note of what happened to a task run."""
        with self._lock:
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
        return tuple(
            TaskRunReport(
                id=e.id,
                name=e.name,
                task=e.task,
                state=e.state,
                start=e.start,
                duration=e.duration,
                worker=e.worker,
            )
            for e in events
        )

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

    def _sent(self) -> dict[str, int]:
        if not self._connection.open:
            return {}
        with contextlib.suppress(OSError, TimeoutError, ValueError, RuntimeError):
            told = self._connection.client.run(bytes_sent, on_error="ignore")
            return {who: int(n) for who, n in told.items()}
        return {}
