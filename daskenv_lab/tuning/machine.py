"""The cores that all workers of a cluster share, where they are on one machine."""

from __future__ import annotations

import math


def stretch(tasks: int, cpu: float, cores: int) -> float:
    """Say how many times as long computing takes while so many tasks share some cores.

    Tasks that compute now and then meet at random: one that shares a processor of utilisation
    ``r`` takes ``1 / (1 - r)`` times as long (processor sharing; Kleinrock, *Queueing Systems* II,
    1976, 4.4). It never takes longer than if all computed all the time, and beyond the utilisation
    at which this formula gives most throughput, the throughput stays as it is there.

    Parameters
    ----------
    tasks : int
        So many run at once.
    cpu : float
        The part of their time that computes.
    cores : int
        The machine's.

    Examples
    --------
    >>> stretch(8, 1.0, 2), stretch(2, 1.0, 2), stretch(8, 0.0, 2)
    (4.0, 1.0, 1.0)
    >>> round(stretch(8, 0.1, 2), 2)
    1.67
    """
    share = max(tasks / cores, 1.0)
    if cpu <= 0.0 or share == 1.0:
        return 1.0
    used = tasks * cpu / cores
    best = 1 / (1 + math.sqrt(cpu))
    if used <= best:
        return min(1 / (1 - used), share)
    throughput = best / (1 - cpu + cpu / (1 - best))
    return min((used / throughput - (1 - cpu)) / cpu, share)


class Machine:
    """Says how much longer the tasks of a simulated run take because they share cores.

    Parameters
    ----------
    cores : int
        The machine's; 0 where each worker has its own.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.waited = 0.0
        """Seconds by which tasks took longer, all together."""

        self._tasks = 0
        self._cpu = 0.0

    def start(self, cpu: float, seconds: float) -> float:
        """Give the seconds by which a task takes longer that starts now, beside what runs."""
        if not self.cores:
            return 0.0
        self._tasks += 1
        self._cpu += cpu
        share = stretch(self._tasks, min(self._cpu / self._tasks, 1.0), self.cores)
        longer = seconds * cpu * (share - 1.0)
        self.waited += longer
        return longer

    def finish(self, cpu: float) -> None:
        """Take note that a task has ended."""
        if self.cores:
            self._tasks -= 1
            self._cpu = max(self._cpu - cpu, 0.0)
