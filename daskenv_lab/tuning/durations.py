"""How long Dask takes tasks to last, from those that ran; it decides by that how many it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN = 0.5
"""Seconds that a task is expected to take before one was seen, as Dask's configuration
``distributed.scheduler.unknown-task-duration`` has it."""


class Durations:
    """What was seen of calls that run and have run, as `distributed.scheduler.TaskPrefix` has it.

    Parameters
    ----------
    names : sequence of int
        The name of each node's task, as a number.
    n_names : int
        How many names there are.
    """

    def __init__(self, names: Sequence[int], n_names: int) -> None:
        self._names = names
        self._mean = [-1.0] * n_names
        self._longest = [-1.0] * n_names
        self._open = [0] * n_names
        self.running: dict[int, float] = {}
        """When each node began that runs."""

    def usual(self, node: int) -> float:
        """Give the seconds that a call of a node is expected to take."""
        return self._usual(self._names[node])

    def ready(self, node: int) -> None:
        """Take note of a call that waits for nothing but a thread."""
        self._open[self._names[node]] += 1

    def begin(self, node: int, now: float) -> None:
        """Take note of a call that begins."""
        self.running[node] = now

    def end(self, node: int, now: float) -> None:
        """Take note of a call that ended: the last one counts for as much as all before it."""
        name = self._names[node]
        took = now - self.running.pop(node)
        self._open[name] -= 1
        self._mean[name] = took if self._mean[name] < 0 else (self._mean[name] + took) / 2

    def watch(self, now: float) -> bool:
        """Look at what runs, as workers tell of it; say whether any takes longer than expected.

        What is known of a task is forgotten when one takes more than twice as long.
        """
        found = False
        for node, began in self.running.items():
            name, took = self._names[node], now - began
            self._longest[name] = max(self._longest[name], took)
            if took > 2 * self._mean[name]:
                self._mean[name] = -1.0
                found = True
        return found

    @property
    def occupancy(self) -> float:
        """Seconds that all calls are expected to take which are ready or run."""
        return sum(n * self._usual(name) for name, n in enumerate(self._open) if n)

    def _usual(self, name: int) -> float:
        if self._mean[name] >= 0:
            return self._mean[name]
        return 2 * self._longest[name] if self._longest[name] > 0 else UNKNOWN
