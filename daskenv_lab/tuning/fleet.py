"""The workers of a simulated cluster: who is there, what each does, and has been given."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daskenv_lab.tuning.memory import Memory


class Fleet:
    """Workers by number, a column for each thing that is known of them.

    Parameters
    ----------
    nthreads : int
        Of each worker.
    memory : Memory
        What they hold.
    """

    def __init__(self, nthreads: int, memory: Memory) -> None:
        self.nthreads = nthreads
        self.memory = memory
        self.coming = 0
        """Workers that were asked for, and are not there yet."""

        self.free: list[int] = []
        """Threads without a task."""

        self.running: list[int] = []
        self.given: list[list[tuple[int, float, float]]] = []
        """Calls that wait for a thread, a heap: the node, since when, and seconds to fetch."""

        self.backlog: list[float] = []
        """Seconds that what it runs and has been given is expected to take, started or not."""

        self.freed_at: list[float] = []
        """When a thread became free last."""

        self.cold: list[bool] = []
        """Whether it has run nothing yet."""

        self.alive: list[bool] = []
        self.asked: list[float] = []
        self.came: list[float] = []
        self.left: list[float] = []
        self.loaded: set[int] = set()
        """Those that have been given calls that wait."""

        self._idle: list[int] = []
        self._is_idle: list[bool] = []

    def ask(self, now: float) -> int:
        """Take note of one more worker that was asked for, and give its number."""
        self.free.append(0)
        self.running.append(0)
        self.given.append([])
        self.backlog.append(0.0)
        self.freed_at.append(-math.inf)
        self.cold.append(True)
        self.alive.append(False)
        self.asked.append(now)
        self.came.append(math.inf)
        self.left.append(math.inf)
        self._is_idle.append(False)
        self.memory.add()
        self.coming += 1
        return len(self.free) - 1

    def arrive(self, worker: int, now: float) -> None:
        """Take note of a worker that has come."""
        self.coming -= 1
        self.alive[worker] = True
        self.came[worker] = now
        self.free[worker] = self.nthreads

    def leave(self, worker: int, now: float) -> int | None:
        """Take note of a worker that goes, and say who takes over what it holds."""
        self.alive[worker] = self._is_idle[worker] = False
        self.free[worker] = 0
        self.left[worker] = now
        heir = next((w for w, alive in enumerate(self.alive) if alive), None)
        self.memory.move(worker, heir)
        return heir

    def present(self) -> list[int]:
        """Give the workers that are there."""
        return [worker for worker, alive in enumerate(self.alive) if alive]

    def needless(self) -> list[int]:
        """Give the workers that are there with nothing to do."""
        return [w for w in self.present() if not self.running[w] and not self.given[w]]

    def set_idle(self, worker: int, *, idle: bool) -> None:
        """Take note of whether a worker has a thread that nothing waits for."""
        if idle and not self._is_idle[worker]:
            heapq.heappush(self._idle, worker)
        self._is_idle[worker] = idle

    def an_idle_one(self) -> int | None:
        """Give the first worker that has a thread that nothing waits for."""
        while self._idle:
            if self._is_idle[self._idle[0]]:
                return self._idle[0]
            heapq.heappop(self._idle)
        return None

    def give(self, worker: int, call: tuple[int, float, float]) -> None:
        """Let a call wait for a thread of a worker."""
        heapq.heappush(self.given[worker], call)
        self.loaded.add(worker)

    def take(self, worker: int) -> tuple[int, float, float]:
        """Take the first call that waits for a worker."""
        call = heapq.heappop(self.given[worker])
        if not self.given[worker]:
            self.loaded.discard(worker)
        return call

    def spans(self, now: float) -> tuple[tuple[float, float], ...]:
        """Say from when each worker was asked for, until when it was there."""
        return tuple(
            (asked, min(left, now)) for asked, left in zip(self.asked, self.left, strict=True)
        )

    def thread_seconds(self, now: float) -> float:
        """Give the seconds for which threads were there."""
        there = (
            max(min(left, now) - came, 0.0)
            for came, left in zip(self.came, self.left, strict=True)
            if came < math.inf
        )
        return sum(there) * self.nthreads
