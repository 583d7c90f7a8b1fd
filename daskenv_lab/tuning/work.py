"""What a flow has to do, on whatever cluster: its tasks, and what its own code does meanwhile."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Warmup:
    """What the first task on a worker takes more, since its process gets ready before.

    Examples
    --------
    >>> Warmup(0.5, workers=2).among(8, cores=2), Warmup(0.5).among(8, cores=0)
    (2.0, 0.5)
    """

    seconds: float = 0.0
    workers: int = 1
    """So many did so at once."""

    def among(self, workers: int, cores: int) -> float:
        """Give the seconds where so many do it at once; it is computing.

        Parameters
        ----------
        workers : int
            The workers.
        cores : int
            Cores of the machine on which they are, or 0 where each has its own.
        """
        if not cores:
            return self.seconds
        return self.seconds * max(workers / cores, 1.0) / max(self.workers / cores, 1.0)


NOTHING = Warmup()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One Dask task: a task run, or the task runs of a batch."""

    task: str
    """The name of the task; durations are pooled by it."""

    seconds: float
    """For which it holds a thread, retries included, without fetching its inputs."""

    needs: tuple[int, ...] = ()
    """The nodes whose results it takes, by their places in `Work.nodes`; all stand before it."""

    cpu: float = 1.0
    """The part of `seconds` that computes, between 0 and 1; the rest waits."""

    output_bytes: int = 0
    memory: int = 0
    """Bytes by which a worker's process grows while it runs."""

    held: bool = True
    """Whether its result stays until the flow run's end; else until its last dependant ended."""

    inner: bool = False
    """Whether another task sends it, not the flow's own code: it is ready when its inputs are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that the flow's own code does, after the one before.

    First it works for `seconds`; then it waits until all of `waits` have ended; then it sends
    `sends` to the cluster.
    """

    seconds: float = 0.0
    waits: tuple[int, ...] = ()
    sends: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a flow run does, without the cluster that it ran on.

    Examples
    --------
    >>> tasks = tuple(Node(task="sleep", seconds=1.0, cpu=0.0) for _ in range(4))
    >>> flow = (Step(seconds=0.1, sends=(0, 1, 2, 3)), Step(waits=(0, 1, 2, 3)), Step(seconds=0.2))
    >>> Work(nodes=tasks, steps=flow).total
    4.0
    """

    nodes: tuple[Node, ...]
    """In the order in which they were sent."""

    steps: tuple[Step, ...]
    """What the flow's own code does; the last one may only work."""

    overhead: float = 0.0
    """Seconds between the end of a task and the start of the next on the same thread."""

    warmup: Warmup = NOTHING
    """Before the first task on each worker, while it opens the flow run's context."""

    cold: Warmup = NOTHING
    """The same on a worker that has just started, and imports what task runs need as well."""

    bandwidth: float = 100e6
    """Bytes a second from one worker to another; Dask's own first guess is 100 MB/s."""

    latency: float = 0.0
    """Seconds that fetching takes besides, for each task that fetches."""

    phase: float | None = None
    """If it can end at times a second apart only: when the first of them is, in seconds."""

    worker_memory: int = 0
    """Bytes of a worker's process that holds nothing."""

    def before_first(self, *, fresh: bool) -> Warmup:
        """Say what comes before the first task of a worker, which may have just started."""
        return self.cold if fresh and self.cold.seconds > self.warmup.seconds else self.warmup

    def end(self, seconds: float) -> float:
        """Give the end of a run whose last work is over after so many seconds.

        Examples
        --------
        >>> Work(nodes=(), steps=(), phase=0.25).end(2.5)
        3.25
        """
        if self.phase is None:
            return seconds
        return self.phase + max(math.ceil(seconds - self.phase - 1e-9), 0)

    @property
    def total(self) -> float:
        """Seconds of all tasks together."""
        return sum(node.seconds for node in self.nodes)
