"""From a flow run's report to the work that it did, on whatever cluster."""

from __future__ import annotations

import heapq
import statistics
from typing import TYPE_CHECKING

from daskenv_lab.errors import ReportError
from daskenv_lab.tuning.work import Node, Step, Warmup, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from daskenv_lab.report import FlowRunReport, TaskRunReport, WorkerReport

KEPT = 1.0
"""Seconds after its last dependant's end for which a result must stay to count as held."""

TICK = 1.0
"""Seconds between two looks of the thread for which Prefect waits; ``flow_engine`` has them."""

TOGETHER = 1e-3
"""Seconds between two calls up to which they count as sent together, as those of a map are."""

FIRST_GUESS = 100e6
"""Bytes a second between workers before any were sent; ``distributed.scheduler.bandwidth``."""


def work_of(report: FlowRunReport) -> Work:
    """Take the work out of a flow run.

    Raises
    ------
    ReportError
        The run did not complete, no cluster ran it, or its report says too little.

    Examples
    --------
    >>> work_of(daskenv_lab.run(etl, day=1)).total  # doctest: +SKIP
    61.3
    """
    _refuse(report)
    return _Reading(report).work()


def worker_of(report: FlowRunReport) -> WorkerReport:
    """Give a worker that ran tasks, for what all of them had.

    Raises
    ------
    ReportError
        There was none.

    Examples
    --------
    >>> worker_of(daskenv_lab.run(etl, day=1)).nthreads  # doctest: +SKIP
    2
    """
    for worker in report.workers:
        if worker.nthreads > 0:
            return worker
    raise ReportError(
        f"the last run of {report.flow!r} sent no task to a cluster; there is nothing to tune"
    )


def _refuse(report: FlowRunReport) -> None:
    what = f"the report of the flow run {report.flow_run_name or report.flow_run_id!r}"
    if not report.ok:
        raise ReportError(
            f"{what} of {report.flow!r} ended {report.state}; what a whole run would take is only "
            "known from one that completed: run the flow again"
        )
    if report.task_runs and not report.workers:
        raise ReportError(
            f"{what} of {report.flow!r} does not say what its tasks needed, as one of an older "
            "version or of a lost connection; run the flow again"
        )


_Step = tuple[float, tuple[int, ...], list[int]]


class _Reading:
    """A report's task runs, gathered by Dask task."""

    def __init__(self, report: FlowRunReport) -> None:
        self.report = report
        runs = report.task_runs
        # A worker whose clock is behind begins tasks before they were sent.
        ahead = [self._told_start(r) - r.submitted for r in runs if r.start and r.submitted]
        self.behind = min(ahead, default=0.0) if min(ahead, default=0.0) < 0 else 0.0
        # By its first task run: of a batch, the task runs that are one Dask task.
        self.members: dict[int, list[int]] = {}
        for place, run in enumerate(runs):
            self.members.setdefault(place if run.batch is None else run.batch, []).append(place)
        order = sorted(self.members, key=self._sent)
        self.node_of = {
            place: node for node, first in enumerate(order) for place in self.members[first]
        }
        self.firsts = order
        extras = [(run.compute or 0) - (run.duration or 0) for run in runs if _single(run)]
        self.extra = statistics.median(extras) if extras else 0.0
        self.ends = [self._end(run) for run in runs]

    def work(self) -> Work:
        nodes = self._nodes()
        report = self.report
        bandwidth = report.bandwidth or FIRST_GUESS
        warmup, cold = self._warmups()
        return Work(
            nodes=nodes,
            steps=self._steps(),
            overhead=self._overhead(),
            warmup=warmup,
            cold=cold,
            bandwidth=bandwidth,
            latency=self._latency(bandwidth),
            phase=report.duration % TICK if report.ticks else None,
            worker_memory=round(_median(worker.memory for worker in report.workers)),
        )

    def _nodes(self) -> tuple[Node, ...]:
        runs = self.report.task_runs
        ends_of: dict[int, float] = {}
        needs: dict[int, set[int]] = {}
        for place, run in enumerate(runs):
            node = self.node_of[place]
            found = needs.setdefault(node, set())
            found.update(self.node_of[need] for need in run.needs if self.node_of[need] < node)
            for need in run.needs:
                ends_of[self.node_of[need]] = max(
                    ends_of.get(self.node_of[need], 0.0), self.ends[place]
                )
        nodes = []
        for node, first in enumerate(self.firsts):
            members = [runs[place] for place in self.members[first]]
            seconds = self._seconds(members)
            busy = sum((run.cpu or 0.0) * (run.duration or 0.0) for run in members)
            head = runs[first]
            last_use = max(ends_of.get(node, 0.0), self.ends[first])
            nodes.append(
                Node(
                    task=head.task,
                    seconds=seconds,
                    needs=tuple(sorted(needs.get(node, ()))),
                    cpu=min(busy / seconds, 1.0) if seconds else 0.0,
                    output_bytes=head.output_bytes or 0,
                    memory=max(run.memory or 0 for run in members),
                    held=head.released is None or head.released > last_use + KEPT,
                    inner=head.submitted is None,
                )
            )
        return tuple(nodes)

    def _seconds(self, members: Sequence[TaskRunReport]) -> float:
        """Give the seconds on a thread, without what only the first task on a worker takes."""
        worked = sum(run.duration or 0.0 for run in members)
        if not worked:
            return 0.0
        held = members[0].compute
        return worked + self.extra if held is None else min(held, worked + self.extra)

    def _sent(self, place: int) -> tuple[float, int]:
        submitted = self.report.task_runs[place].submitted
        if submitted is None:
            submitted = self._start(self.report.task_runs[place])
        return submitted, place

    def _start(self, run: TaskRunReport) -> float:
        return 0.0 if run.start is None else self._told_start(run) - self.behind

    def _told_start(self, run: TaskRunReport) -> float:
        return 0.0 if run.start is None else (run.start - self.report.start).total_seconds()

    def _end(self, run: TaskRunReport) -> float:
        return self._start(run) + (run.duration or 0.0)

    def _steps(self) -> tuple[Step, ...]:
        """Read the flow's own code from its waits, and from when it sent what."""
        sends: dict[int, float] = {}
        for place, run in enumerate(self.report.task_runs):
            if run.submitted is not None:
                sends.setdefault(self.node_of[place], run.submitted)
        events = [(at, at, (), (node,)) for node, at in sends.items()] + [
            (wait.ended, wait.began, wait.task_runs, ()) for wait in self.report.waits
        ]
        steps: list[_Step] = []
        now = late = 0.0
        for until, since, places, sent in sorted(events, key=lambda event: event[0]):
            work = max(since - now, 0.0) + late
            now, late = max(now, until), 0.0
            if sent and steps and steps[-1][2] and work < TOGETHER:
                steps[-1][2].extend(sent)
                continue
            waits = tuple(dict.fromkeys(self.node_of[place] for place in places))
            steps.append((work, waits, list(sent)))
            # What the client took to hear of the last end and to fetch results is work of its own.
            ended = max((self.ends[place] for place in places), default=until)
            late = until - min(max(ended, since), until)
        rest = max(self.report.duration - now, 0.0) + late
        steps.append((rest, (), []))
        if self.report.ticks:
            steps = self._without_tick(steps)
        return tuple(Step(seconds=work, waits=waits, sends=tuple(s)) for work, waits, s in steps)

    def _without_tick(self, steps: list[_Step]) -> list[_Step]:
        """Take the waiting for the next whole second out of what the flow does in the end.

        What the flow itself did then is not known: of less than a second it is taken to be
        nothing, and of more half a second was waiting, on average.
        """
        tail = self.report.duration - max(self.ends, default=self.report.duration)
        waited = tail if tail < TICK else TICK / 2
        kept = list(steps)
        for place in range(len(steps) - 1, -1, -1):
            work, waits, sent = steps[place]
            if sent or waited <= 0:
                break
            kept[place] = (max(work - waited, 0.0), waits, sent)
            waited -= work
        return kept

    def _overhead(self) -> float:
        """Give the usual gap between two tasks on a thread, the second of which was ready."""
        gaps: list[float] = []
        for threads, runs in self._by_worker():
            free = [0.0] * min(threads, len(runs))
            for begun, ended, ready in runs:
                before = heapq.heappop(free)
                if before > 0.0 and ready < before:
                    gaps.append(max(begun - before, 0.0))
                heapq.heappush(free, max(ended, before))
        return statistics.median(gaps) if gaps else 0.0

    def _warmups(self) -> tuple[Warmup, Warmup]:
        """Give what the first task takes more on a worker that was there, and on one that came."""
        workers = self.report.workers
        came = {worker.address for worker in workers if worker.joined > 0}
        first: dict[str, float] = {}
        for run in sorted(self.report.task_runs, key=self._start):
            if _single(run) and run.worker:
                more = (run.compute or 0) - (run.duration or 0) - self.extra
                first.setdefault(run.worker, max(more, 0.0))
        found = []
        for new in (False, True):
            seconds = [more for worker, more in first.items() if (worker in came) == new]
            there = len(came) if new else len(workers) - len(came)
            found.append(Warmup(_median(seconds), max(there, 1)))
        return found[0], found[1]

    def _by_worker(self) -> Iterable[tuple[int, list[tuple[float, float, float]]]]:
        """Give each worker's threads, and its tasks' beginnings, ends and when they were ready."""
        threads: Mapping[str, int] = {w.address: w.nthreads for w in self.report.workers}
        found: dict[str, list[tuple[float, float, float]]] = {}
        for place, run in enumerate(self.report.task_runs):
            if run.worker is None or run.worker not in threads or not _single(run):
                continue
            ready = max((self.ends[need] for need in run.needs), default=0.0)
            begun = self.ends[place] - (run.compute or 0.0)
            task = (begun, self.ends[place], max(ready, run.submitted or 0.0))
            found.setdefault(run.worker, []).append(task)
        for worker, runs in found.items():
            yield max(threads[worker], 1), sorted(runs)

    def _latency(self, bandwidth: float) -> float:
        """Give what fetching takes besides the bytes' own time."""
        found = [
            max(run.transfer - (run.input_bytes or 0) / bandwidth, 0.0)
            for run in self.report.task_runs
            if run.transfer
        ]
        return _median(found)


def _single(run: TaskRunReport) -> bool:
    """Whether it has a Dask task of its own, and that ran."""
    return run.batch is None and run.compute is not None and run.duration is not None


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else 0.0
