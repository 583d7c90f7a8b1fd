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

    startup: float = 0.0
    """Seconds from asking for a worker until it is there."""

    fresh: bool = False
    """Whether the cluster is made for the flow run, so that its first workers start as well."""

    @property
    def adaptive(self) -> bool:
        """Whether the number of workers follows the load."""
        return self.maximum is not None

    def crowding(self, n_tasks: int, cpu: float) -> float:
        """Say how many times as long computing takes, since all workers share a machine's cores.

        Parameters
        ----------
        n_tasks : int
            No more than so many run at once.
        cpu : float
            The part of the tasks' time that computes.

        Examples
        --------
        >>> Size(n_workers=8, cores=2).crowding(100, 1.0), Size(n_workers=8).crowding(100, 1.0)
        (4.0, 1.0)
        """
        threads = min((self.maximum or self.n_workers) * self.nthreads, n_tasks)
        return max(threads * cpu / self.cores, 1.0) if self.cores else 1.0

    def stretch(self, cpu: float) -> float:
        """Say how many times as long a task takes here, `cpu` of whose time is computing.

        Examples
        --------
        >>> Size(n_workers=1, speed=0.5).stretch(0.0), Size(n_workers=1, speed=0.5).stretch(1.0)
        (1.0, 2.0)
        """
        return 1.0 - cpu + cpu / self.speed
