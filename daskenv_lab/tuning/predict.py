"""What a flow run would take and cost on a cluster of another size, with ranges."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

from daskenv_lab.errors import ReportError
from daskenv_lab.tuning.adaptive import CROWDED
from daskenv_lab.tuning.given import several
from daskenv_lab.tuning.limit import Limit, critical_path, limit_of
from daskenv_lab.tuning.memory import SPILL
from daskenv_lab.tuning.prepared import Prepared
from daskenv_lab.tuning.record import work_of
from daskenv_lab.tuning.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from daskenv_lab.prices import Rate
    from daskenv_lab.report import FlowRunReport
    from daskenv_lab.tuning.simulated import Placed, Simulated
    from daskenv_lab.tuning.size import Size
    from daskenv_lab.tuning.work import Work

AMPLE = min(SPILL, CROWDED)
"""The part of a worker's memory up to which nothing that runs on it depends on how much it has."""

DRAWS = 9
"""How often durations are drawn anew from those observed."""

DRAWN = 20_000
"""Durations that are drawn at most, of three draws at least: those of many tasks differ little."""

ENOUGH = 5
"""Durations of one task from which others are drawn; of fewer, the spread is that of all tasks."""


class Range(NamedTuple):
    """A figure, and between what it is likely to be: the lowest and highest of the draws."""

    likely: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a flow run would take on a cluster of some size."""

    size: Size
    seconds: Range
    """From the flow run's start to its end; infinite if it would not end."""

    cost: Range | None
    """US dollars; None where nobody knows a price."""

    worker_seconds: Range
    """Of all workers together, from when they were asked for."""

    peak_memory: Range
    """The most bytes of any worker."""

    utilisation: Range
    """The part of the time for which workers' threads were busy, between 0 and 1."""

    limit: Limit
    """What it is that takes the time."""

    fault: str | None = None
    """Why it would not end, in a sentence."""

    spilled: int = 0
    """Bytes moved to disk."""


class Model:
    """What is known of a flow: the work of one run, and how its durations spread over runs.

    Parameters
    ----------
    reports : sequence of FlowRunReport
        Runs of one flow; the newest that completed gives the graph, all give durations.
    seed : int
        Of the draws; equal seeds give equal predictions.

    Raises
    ------
    ReportError
        None of them can be used, or they are of several flows.

    Examples
    --------
    >>> Model.of([daskenv_lab.run(etl, day=1)]).predict(Size(n_workers=8))  # doctest: +SKIP
    """

    report: FlowRunReport | None = None
    """The run that gave the graph."""

    def __init__(self, works: Sequence[Work], *, seed: int = 0) -> None:
        self.work = works[0]
        self._prepared = Prepared(self.work)
        self._paths: dict[float, tuple[float, tuple[int, ...]]] = {}
        self._draws = _drawn(works, seed)
        self._roomy: dict[Size, Simulated] = {}

    @classmethod
    def of(cls, reports: Iterable[FlowRunReport], *, seed: int = 0) -> Self:
        """Make the model from reports of one flow.

        Raises
        ------
        ReportError
            None of them can be used, or they are of several flows.
        """
        given = sorted(reports, key=lambda report: report.start, reverse=True)
        if len(names := {report.flow for report in given}) > 1:
            raise ReportError(
                f"the reports are of the flows {', '.join(sorted(names))}; give those of one"
            )
        works, used, faults = [], [], []
        for report in given:
            try:
                works.append(work_of(report))
                used.append(report)
            except ReportError as error:
                faults.append(error)
        if not works:
            raise faults[0] if faults else ReportError("no report was given; run a flow first")
        # The first run on a cluster is on workers that have just started.
        seen = [warmup for work in works for warmup in (work.cold, work.warmup)]
        cold = max(seen, key=lambda warmup: warmup.seconds)
        made = cls([replace(works[0], cold=cold), *works[1:]], seed=seed)
        made.report = used[0]
        return made

    def predict(self, size: Size, rate: Rate | None = None) -> Prediction:
        """Say what the flow run would take on a cluster of a size, and cost at a rate."""
        first, *others = [simulate(self._prepared, size, seconds=drawn) for drawn in self._draws]
        return self._prediction(size, rate, [first, *others])

    def glance(self, size: Size, rate: Rate | None = None) -> Prediction:
        """Say it from the durations as they were observed, without ranges; it is far quicker."""
        return self._prediction(size, rate, [self._observed(size)])

    def _observed(self, size: Size) -> Simulated:
        """Simulate the durations as observed, once for all memory sizes that are never short."""
        roomy = replace(size, memory=0)
        if roomy not in self._roomy:
            self._roomy[roomy] = simulate(self._prepared, roomy)
        if self._roomy[roomy].peak_memory <= AMPLE * size.memory or not size.memory:
            return self._roomy[roomy]
        return simulate(self._prepared, size)

    def timeline(self, size: Size) -> tuple[Placed, ...]:
        """Say which task would run when, on which worker, with the durations as observed."""
        return simulate(self._prepared, size, timeline=True).placed

    def _prediction(self, size: Size, rate: Rate | None, runs: Sequence[Simulated]) -> Prediction:
        def over(figure: Callable[[Simulated], float]) -> Range:
            return _range([figure(run) for run in runs])

        middle = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
        if size.speed not in self._paths:
            self._paths[size.speed] = critical_path(self.work, size)
        return Prediction(
            size=size,
            seconds=over(lambda run: run.seconds),
            cost=None if rate is None else over(lambda run: _cost(rate, run)),
            worker_seconds=over(lambda run: run.worker_seconds),
            peak_memory=over(lambda run: run.peak_memory),
            utilisation=over(_busy),
            limit=limit_of(self.work, size, middle, self._paths[size.speed]),
            fault=next((run.fault for run in runs if run.fault), None),
            spilled=middle.spilled,
        )


def predict(
    reports: FlowRunReport | Iterable[FlowRunReport], size: Size, *, rate: Rate | None = None
) -> Prediction:
    """Predict a flow run on a cluster of some size, from one run or several of the same flow.

    Parameters
    ----------
    reports : FlowRunReport or iterable
        What `run` gave, or `load` read.
    size : Size
        The cluster.
    rate : Rate, optional
        What it costs.

    Raises
    ------
    ReportError
        A prediction cannot be made from them.

    Examples
    --------
    >>> predict(daskenv_lab.run(etl, day=1), Size(n_workers=8)).seconds.likely  # doctest: +SKIP
    12.4
    """
    return Model.of(several(reports)).predict(size, rate)


def _busy(run: Simulated) -> float:
    return run.busy_seconds / run.thread_seconds if run.thread_seconds else 0.0


def _cost(rate: Rate, run: Simulated) -> float:
    if math.isinf(run.seconds):
        return math.inf
    return rate.run(run.seconds, [until - since for since, until in run.workers])


def _range(values: Sequence[float]) -> Range:
    return Range(statistics.median(values), min(values), max(values))


def _drawn(works: Sequence[Work], seed: int) -> list[list[float]]:
    """Draw durations for the work's nodes, each from those that its task was observed to take."""
    observed: dict[str, list[float]] = {}
    for work in works:
        for node in work.nodes:
            observed.setdefault(node.task, []).append(node.seconds)
    spread = [
        seconds / mean
        for durations in observed.values()
        if len(durations) >= ENOUGH and (mean := statistics.fmean(durations)) > 0
        for seconds in durations
    ] or [1.0]
    # The order is Python's own, so that a seed means the same everywhere.
    dice = random.Random(seed)  # noqa: S311 - no secret
    nodes = works[0].nodes

    def one(task: str, seconds: float) -> float:
        durations = observed[task]
        return dice.choice(durations) if len(durations) >= ENOUGH else seconds * dice.choice(spread)

    draws = max(min(DRAWS, DRAWN // max(len(nodes), 1)), 3)
    return [[one(node.task, node.seconds) for node in nodes] for _ in range(draws)]
