"""A size that a cluster could have, as far as it changes how long a flow run takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many workers there would be, and what each would have.

    Examples
    --------
    >>> Size(n_workers=4).adaptive
    False
    >>> Size(n_workers=1, maximum=16, startup=45.0).adaptive
    True
    """

    n_workers: int
    """The number of workers; of an adaptive size the least, and what there is at the start."""

    maximum: int | None = None
    """The most workers, where their number follows the load by Dask's rules; None if it stays."""

    nthreads: int = 1
    """Threads of each worker."""

    memory: int = 0
    """Bytes that each worker may use; 0 means no limit."""

    speed: float = 1.0
    """Cores for each thread of a worker, against those that it had when the run was recorded.

    A task's part that computes takes ``1 / speed`` as long; its part that waits does not change.
    """

    cores: int = 0
    """Cores that all workers share, where they are on one machine; 0 where each has its own."""

    interval: float = 1.0
    """Seconds between two looks at the load, of an adaptive size: Dask's are each second
    (``distributed.adaptive.interval``), those of Dask Gateway's clusters each third
    (``ClusterConfig.adaptive_period``)."""

    startup: float = 0.0
    """Seconds from asking for a worker until it is there."""

    fresh: bool = False
    """Whether the cluster is made for the flow run, so that its first workers start as well."""

    @property
    def adaptive(self) -> bool:
        """Whether the number of workers follows the load."""
        return self.maximum is not None

    def stretch(self, cpu: float) -> float:
        """Say how many times as long a task takes here, `cpu` of whose time is computing.

        Examples
        --------
        >>> Size(n_workers=1, speed=0.5).stretch(0.0), Size(n_workers=1, speed=0.5).stretch(1.0)
        (1.0, 2.0)
        """
        return 1.0 - cpu + cpu / self.speed
