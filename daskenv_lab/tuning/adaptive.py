"""How many workers Dask's adaptive scaling asks for, as a load changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daskenv_lab.tuning.size import Size

TARGET = 5.0
"""Seconds within which all should be done; ``distributed.adaptive.target-duration``."""

PATIENCE = 3
"""Looks in a row at which a worker must be found needless; ``distributed.adaptive.wait-count``."""

CROWDED = 0.6
"""The part of all memory from which on twice the workers are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a look finds."""

    workers: int
    coming: int
    """Workers that were asked for, and are not there yet."""

    queued: int
    """Calls that no worker has been given."""

    processing: int
    """Calls that workers have been given."""

    occupancy: float
    """Seconds that all of them are expected to take."""

    idle: int
    """Workers that have nothing to do."""

    memory_used: float = 0.0
    memory: float = 0.0
    """Bytes of results, and of all workers' limits."""

    @property
    def ready(self) -> int:
        """Calls that a worker has, or could have."""
        return self.queued + self.processing


class Adaptive:
    """Decides as `distributed.deploy.Adaptive` and ``Scheduler.adaptive_target`` do.

    Examples
    --------
    >>> from daskenv_lab.tuning.size import Size
    >>> adaptive = Adaptive(Size(n_workers=1, maximum=10))
    >>> adaptive.change(
    ...     Load(workers=1, coming=0, queued=20, processing=2, occupancy=44.0, idle=0)
    ... )
    8
    """

    def __init__(self, size: Size) -> None:
        assert size.maximum is not None  # noqa: S101 - an adaptive size has one
        self._least, self._most = size.n_workers, size.maximum
        self._nthreads = size.nthreads
        self._needless = 0

    def change(self, load: Load) -> int:
        """Say by how many workers the cluster changes at this look."""
        target = min(max(self._target(load), self._least), self._most)
        planned = load.workers + load.coming
        if target >= planned:
            self._needless = 0
            return target - planned
        self._needless += 1
        if self._needless < PATIENCE:
            return 0
        self._needless = 0
        return -min(planned - target, load.idle + load.coming)

    def _target(self, load: Load) -> int:
        # A few long tasks do not ask for many workers.
        cores = min(math.ceil(load.occupancy / TARGET), load.ready)
        wanted = math.ceil(cores / self._nthreads)
        if load.queued and not load.workers:
            wanted = max(wanted, 1)
        if load.memory and load.memory_used > CROWDED * load.memory:
            wanted = max(wanted, 2 * load.workers)
        if wanted >= load.workers:
            return wanted
        return load.workers - load.idle
