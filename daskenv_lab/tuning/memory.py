"""What workers hold in memory, and what they do when it becomes much."""

from __future__ import annotations

from daskenv_lab.phrases import memory as spelt

SPILL = 0.70
"""The part of a worker's limit above which it moves results to disk; see `PAUSE`."""

PAUSE = 0.80
"""The part above which it starts no further task, as ``distributed.worker.memory`` has them."""

TERMINATE = 0.95
"""The part at which it is killed."""

DISK = 200e6
"""Bytes a second to and from disk: a common cloud disk's."""


class Memory:
    """The memory of all workers of one simulated cluster.

    Parameters
    ----------
    limit : int
        Bytes that each worker may use; 0 means no limit.
    base : int
        Bytes of a worker that holds nothing.
    """

    def __init__(self, limit: int, base: int) -> None:
        self.limit = limit
        self.base = base
        self.peak = base
        self.spilled = 0
        self.fault: str | None = None
        self.stored: list[int] = []
        """Bytes of results in each worker's memory."""

        self.on_disk: list[int] = []
        self._owed: list[float] = []
        """Seconds of writing to disk that delay what each worker starts next."""

        self.working: list[int] = []
        """Bytes of what runs on each worker."""

    def add(self) -> None:
        """Take note of one more worker."""
        self.stored.append(0)
        self.on_disk.append(0)
        self.working.append(0)
        self._owed.append(0.0)

    def allows(self, worker: int, grows: int) -> bool:
        """Tell whether a worker that runs something may start more beside it."""
        there = self.base + self.working[worker] + grows
        return there + self.stored[worker] <= PAUSE * self.limit or there <= SPILL * self.limit

    def start(self, worker: int, grows: int, inputs: int) -> float:
        """Take note of a task that starts, and give the seconds for which disks delay it."""
        self.working[worker] += grows
        self._look(worker)
        delay, self._owed[worker] = self._owed[worker], 0.0
        if self.limit and self.on_disk[worker] and inputs:
            held = self.on_disk[worker] + self.stored[worker]
            delay += inputs * self.on_disk[worker] / held / DISK
        if self.limit and self.base + self.working[worker] > TERMINATE * self.limit:
            self.fault = (
                f"needs {spelt(self.base + self.working[worker])} on a worker that may use "
                f"{spelt(self.limit)}, and is killed above {TERMINATE:.0%} of it; take more memory"
            )
        return delay

    def finish(self, worker: int, grows: int, output: int) -> None:
        """Take note of a task that ended, and of its result."""
        self.working[worker] -= grows
        self.store(worker, output)

    def store(self, worker: int, output: int) -> None:
        """Take note of a result that a worker has."""
        self.stored[worker] += output
        self._look(worker)

    def release(self, worker: int, output: int) -> None:
        """Take note of a result that nobody needs any more."""
        from_disk = max(output - self.stored[worker], 0)
        self.stored[worker] -= output - from_disk
        self.on_disk[worker] = max(self.on_disk[worker] - from_disk, 0)

    def held(self, worker: int) -> int:
        """Give the bytes of the results that a worker has, on disk or not."""
        return self.stored[worker] + self.on_disk[worker]

    def forget(self, worker: int) -> None:
        """Take note of a worker that is gone."""
        self.stored[worker] = self.on_disk[worker] = 0

    def _look(self, worker: int) -> None:
        there = self.base + self.stored[worker] + self.working[worker]
        if self.limit and there > SPILL * self.limit and self.stored[worker]:
            moved = min(round(there - SPILL * self.limit), self.stored[worker])
            self.stored[worker] -= moved
            self.on_disk[worker] += moved
            self.spilled += moved
            there -= moved
            self._owed[worker] += moved / DISK
        self.peak = max(self.peak, there)
