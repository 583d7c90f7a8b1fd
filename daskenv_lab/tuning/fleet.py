"""The workers of a simulated cluster: who is there, what each does, and has been given."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import TYPE_CHECKING

from daskenv_lab.tuning.adaptive import Load
from daskenv_lab.tuning.work import NOTHING

if TYPE_CHECKING:
    from daskenv_lab.tuning.memory import Memory
    from daskenv_lab.tuning.work import Warmup

Call = tuple[int, int, int, float]
"""Generation, turn and node of a call, and when its inputs are there."""

SMALL = 20
"""Workers from which on Dask takes them in turn, without a look at what they have to do."""


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

        self.calls: list[int] = []
        """Calls that it runs or has been given."""

        self.running: list[int] = []
        self.given: list[list[Call]] = []
        """Calls that wait for a thread, a heap of each worker's."""

        self.backlog: list[float] = []
        """Seconds that what it runs and has been given is expected to take, started or not."""

        self.freed_at: list[float] = []
        """When a thread became free last."""

        self.warmup: list[Warmup] = []
        """What comes before its first task; nothing afterwards."""

        self.alive: list[bool] = []
        self.asked: list[float] = []
        self.came: list[float] = []
        self.left: list[float] = []
        self.loaded: set[int] = set()
        """Those that have been given calls that wait."""

        self.n_alive = 0
        self.expected_of: dict[int, float] = {}
        """Seconds that calls are expected to take that wait for a thread, by their nodes."""

        self._present: list[int] | None = None
        self._together: Counter[float] = Counter()
        self._roomy: list[tuple[int, int]] = []
        self._turn = 0

    def ask(self, now: float, warmup: Warmup) -> int:
        """Take note of one more worker that was asked for, and give its number."""
        self.free.append(0)
        self.running.append(0)
        self.calls.append(0)
        self.given.append([])
        self.backlog.append(0.0)
        self.freed_at.append(-math.inf)
        self.warmup.append(warmup)
        self.alive.append(False)
        self.asked.append(now)
        self._together[now] += 1
        self.came.append(math.inf)
        self.left.append(math.inf)
        self.memory.add()
        self.coming += 1
        return len(self.free) - 1

    def arrive(self, worker: int, now: float) -> bool:
        """Take note of a worker that has come, and tell whether it is still wanted."""
        if self.left[worker] < math.inf:
            return False
        self.coming -= 1
        self.alive[worker], self._present = True, None
        self.came[worker] = now
        self.free[worker] = self.nthreads
        self.n_alive += 1
        self.has_room(worker)
        return True

    def first(self, worker: int, cores: int) -> float:
        """Give the seconds before a worker's first task, once; `cores` are those of all, or 0."""
        warmup, self.warmup[worker] = self.warmup[worker], NOTHING
        return warmup.among(self._together[self.asked[worker]], cores) if warmup.seconds else 0.0

    def leave(self, worker: int, now: float) -> None:
        """Take note of a worker that goes."""
        if self.alive[worker]:
            self.n_alive -= 1
        else:
            self.coming -= 1
        self.alive[worker], self._present = False, None
        self.free[worker] = 0
        self.left[worker] = now

    def leaving(self, n: int) -> set[int]:
        """Choose workers to let go of: those that have not come yet, then those without a call.

        One stays to hold the results, if there was one.
        """
        coming = [w for w, at in enumerate(self.came) if at == self.left[w] == math.inf]
        chosen = [*coming, *self.needless()][:n]
        last = set(self.present())
        return set(chosen[:-1] if last and last <= set(chosen) else chosen)

    def load(self, queued: int, occupancy: float, *, limit: int) -> Load:
        """Say what there is to do.

        Parameters
        ----------
        queued : int
            Calls that no worker has been given.
        occupancy : float
            Seconds that all calls are expected to take that are not over.
        limit : int
            Bytes that each worker may use.
        """
        present = self.present()
        return Load(
            workers=len(present),
            coming=self.coming,
            queued=queued,
            processing=sum(self.calls[w] for w in present),
            occupancy=occupancy,
            idle=len(self.needless()),
            memory_used=sum(self.memory.held(w) for w in present),
            memory=limit * len(present),
        )

    def present(self) -> list[int]:
        """Give the workers that are there."""
        if self._present is None:
            self._present = [worker for worker, alive in enumerate(self.alive) if alive]
        return self._present

    def needless(self) -> list[int]:
        """Give the workers that are there with nothing to do."""
        return [w for w in self.present() if not self.calls[w]]

    def has_room(self, worker: int) -> None:
        """Take note of a worker that could be given more."""
        heapq.heappush(self._roomy, (self.calls[worker], worker))

    def least_busy(self, slots: int) -> int | None:
        """Give the worker with the fewest calls, if that is fewer than it may have."""
        while self._roomy:
            calls, worker = self._roomy[0]
            if self.alive[worker] and self.calls[worker] == calls < slots:
                return worker
            heapq.heappop(self._roomy)
        return None

    def next_one(self) -> int:
        """Give the worker for a call that needs nothing: one with nothing to do, in turn."""
        found = self.least_busy(self.nthreads)
        if found is not None:
            return found
        present = self.present()
        if len(present) < SMALL:
            return min(present, key=lambda worker: (self.backlog[worker], worker))
        self._turn += 1
        return present[self._turn % len(present)]

    def give(self, worker: int, call: Call, expected: float) -> None:
        """Let a call wait for a thread of a worker."""
        heapq.heappush(self.given[worker], call)
        self.backlog[worker] += expected
        self.expected_of[call[2]] = expected
        self.loaded.add(worker)
        self.calls[worker] += 1

    def take(self, worker: int) -> Call:
        """Take the first call that waits for a worker; if it does not start, it goes elsewhere."""
        given = self.given[worker]
        call = heapq.heappop(given)
        self.calls[worker] -= 1
        self.backlog[worker] -= self.expected_of.pop(call[2])
        if not given:
            self.loaded.discard(worker)
        return call

    def start(self, worker: int, expected: float) -> None:
        """Take note of a call that begins."""
        self.free[worker] -= 1
        self.running[worker] += 1
        self.calls[worker] += 1
        self.backlog[worker] += expected

    def finish(self, worker: int, expected: float, now: float) -> None:
        """Take note of a call that ended."""
        self.free[worker] += 1
        self.running[worker] -= 1
        self.calls[worker] -= 1
        self.backlog[worker] -= expected
        self.freed_at[worker] = now

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
