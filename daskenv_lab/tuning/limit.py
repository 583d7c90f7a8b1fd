"""What it is that takes a flow run its time, and would have to change to make it shorter."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from daskenv_lab.phrases import many, memory

if TYPE_CHECKING:
    from daskenv_lab.tuning.simulated import Simulated
    from daskenv_lab.tuning.size import Size
    from daskenv_lab.tuning.work import Work

Kind = Literal[
    "memory",
    "machine",
    "start-up",
    "client",
    "transfers",
    "straggler",
    "critical path",
    "workers",
]

CROWDED = 0.2
"""The part of the tasks' time, waiting for a shared machine's cores, for that to be what limits."""

MOST = 0.8
"""The part of the time from which a lower bound of it is what limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What limits a flow run on a cluster."""

    kind: Kind
    why: str
    """A sentence with the figures."""


def limit_of(
    work: Work, size: Size, run: Simulated, path: tuple[float, tuple[int, ...]] | None = None
) -> Limit:
    """Say what limits a simulated run, the surest first.

    Parameters
    ----------
    work, size, run
        What was simulated, on what, and what came of it.
    path : tuple, optional
        What `critical_path` gave, where it is known already.
    """
    took = run.seconds
    if run.fault:
        return Limit(kind="memory", why=run.fault)
    if run.spilled:
        return Limit(
            kind="memory",
            why=f"workers move {memory(run.spilled)} to disk; give them more memory",
        )
    if run.crowded_seconds > CROWDED * run.busy_seconds:
        part = run.crowded_seconds / run.busy_seconds
        return Limit(
            kind="machine",
            why=f"all workers share {many(size.cores, 'core')} of one machine, for which tasks "
            f"wait {part:.0%} of their time: more workers shorten little",
        )
    came = size.startup if size.fresh else 0.0
    if came > took / 2:
        return Limit(kind="start-up", why=f"workers take {came:.0f} s of {took:.0f} s to start")
    if run.client_seconds > took / 2:
        return Limit(
            kind="client",
            why=f"the flow's own code works alone for {run.client_seconds:.1f} s of {took:.1f} s",
        )
    seconds, nodes = path or critical_path(work, size)
    worked = took - came
    if seconds > MOST * worked:
        return _path(work, size, seconds, nodes, worked)
    if run.transfer_seconds > max(run.busy_seconds, 1e-9) / 4:
        return Limit(
            kind="transfers",
            why=f"tasks wait {run.transfer_seconds:.1f} s for other workers' results, beside "
            f"{run.busy_seconds:.1f} s of work: fewer, larger workers move less",
        )
    return Limit(
        kind="workers",
        why=f"{run.busy_seconds:.1f} s of work on {_threads(size)}, where the longest path takes "
        f"{seconds:.1f} s: more workers shorten it",
    )


def critical_path(work: Work, size: Size) -> tuple[float, tuple[int, ...]]:
    """Give the seconds that any number of workers would take, and the nodes on the longest path.

    The flow's own code is part of it: what it waits for, and sends after that.

    Examples
    --------
    >>> from daskenv_lab.tuning.size import Size
    >>> from daskenv_lab.tuning.work import Node, Step, Work
    >>> chain = (Node(task="a", seconds=1.0), Node(task="b", seconds=2.0, needs=(0,)))
    >>> critical_path(Work(nodes=chain, steps=(Step(sends=(0, 1)),)), Size(n_workers=8))
    (3.0, (0, 1))
    """
    ends: dict[int, float] = {}
    before: dict[int, int | None] = {}
    inner = [place for place, node in enumerate(work.nodes) if node.inner]
    now, after = 0.0, None

    def settle(place: int, since: float, cause: int | None) -> None:
        node = work.nodes[place]
        for need in node.needs:
            # One that is sent later is not known yet: the path is a lower bound.
            if ends.get(need, 0.0) > since:
                since, cause = ends[need], need
        ends[place] = since + node.seconds * size.stretch(node.cpu)
        before[place] = cause

    def settle_inner() -> None:
        for place in tuple(inner):
            if all(need in ends for need in work.nodes[place].needs):
                inner.remove(place)
                settle(place, 0.0, None)

    for step in work.steps:
        now += step.seconds
        settle_inner()
        for place in step.waits:
            if ends.get(place, 0.0) > now:
                now, after = ends[place], place
        for place in step.sends:
            settle(place, now, after)
    settle_inner()
    last = max(ends, key=ends.__getitem__, default=None)
    if last is not None and ends[last] > now:
        now, after = ends[last], last
    path: list[int] = []
    while after is not None:
        path.append(after)
        after = before[after]
    return now, tuple(reversed(path))


def _path(work: Work, size: Size, path: float, nodes: tuple[int, ...], worked: float) -> Limit:
    longest = max(nodes, key=lambda place: work.nodes[place].seconds, default=None)
    if longest is not None:
        node = work.nodes[longest]
        alone = node.seconds * size.stretch(node.cpu)
        usual = statistics.median(n.seconds for n in work.nodes if n.task == node.task)
        if alone > worked / 3 and node.seconds > 2 * usual:
            return Limit(
                kind="straggler",
                why=f"one {node.task!r} takes {alone:.1f} s, where the usual one takes "
                f"{usual:.1f} s: split it, or send it first",
            )
    return Limit(
        kind="critical path",
        why=f"{len(nodes)} tasks that need each other take {path:.1f} s of {worked:.1f} s on any "
        "number of workers",
    )


def _threads(size: Size) -> str:
    each = f" with {size.nthreads} threads each" if size.nthreads > 1 else ""
    if size.maximum is not None:
        return f"{size.n_workers} to {many(size.maximum, 'worker')}{each}"
    return f"{many(size.n_workers, 'worker')}{each}"
