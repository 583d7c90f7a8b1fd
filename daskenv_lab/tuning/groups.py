"""Dask's rules of which calls are queued, and the figures that its configuration has for them."""

from __future__ import annotations

import math

SATURATION = 1.1
"""Calls that a worker has for each thread until it is given no queued one, as Dask's
configuration ``distributed.scheduler.worker-saturation`` has it."""

BALANCE = 1.0
"""Seconds between two looks for work to steal; ``distributed.scheduler.work-stealing-interval``."""

FEW_GROUPS = FEW_MEMBERS = 5
"""A group counts as root-like while it needs fewer groups than this, of fewer calls together
(``distributed.scheduler.rootish-taskgroup`` and ``rootish-taskgroup-dependencies``)."""

TOGETHER = 0.1
"""Seconds between two calls up to which none is preferred; ``fifo_timeout`` of ``Client.map``."""


def slots(nthreads: int) -> int:
    """Say how many calls a worker may have for it to be given a queued one."""
    return math.ceil(SATURATION * nthreads)


class Groups:
    """The calls that were sent, by the name of their task, as Dask groups them."""

    def __init__(self, n_names: int) -> None:
        self._sent = [0] * n_names
        self._needs: list[set[int]] = [set() for _ in range(n_names)]
        self._last = -math.inf
        self._generation = 0

    def send(self, name: int, needs: set[int], now: float) -> int:
        """Take note of a call, and give its generation: a later one waits for the ones before."""
        self._sent[name] += 1
        self._needs[name] |= needs
        if now - self._last > TOGETHER:
            self._generation += 1
        self._last = now
        return self._generation

    def rootlike(self, name: int, threads: int) -> bool:
        """Tell whether calls of a name are queued, on a cluster of so many threads."""
        needs = self._needs[name]
        return (
            self._sent[name] > 2 * threads
            and len(needs) < FEW_GROUPS
            and sum(self._sent[other] for other in needs) < FEW_MEMBERS
        )
