"""Predictions: ranges, costs, several runs, and what limits."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from daskenv_lab.errors import ReportError
from daskenv_lab.prices import Rate
from daskenv_lab.tuning import Model, Node, Size, Step, Work, predict
from daskenv_lab.tuning.limit import limit_of
from daskenv_lab.tuning.simulation import simulate
from tests.tuning.reports import flow_run, task_run, waited


def mapped(*seconds: float, **more: Any) -> Any:
    """Describe a run of a map whose tasks took so long, one after another on two workers."""
    free = [0.1, 0.1]
    runs = []
    for place, took in enumerate(seconds):
        worker = free.index(min(free))
        runs.append(task_run(place, free[worker], took, submitted=0.1, worker=f"w{worker}"))
        free[worker] += took
    end = max(free)
    waits = (waited(0.1, end, *range(len(seconds))),)
    return flow_run(*runs, waits=waits, duration=end + 0.2, **more)


def test_the_recorded_size_takes_what_it_took() -> None:
    """With the durations as they were."""
    report = mapped(*[1.0] * 6)
    assert Model.of([report]).glance(Size(n_workers=2)).seconds.likely == pytest.approx(
        report.duration
    )


def test_ranges() -> None:
    """They hold the likely figure, and are none where all tasks take the same."""
    found = predict(mapped(*[0.5, 1.5] * 10), Size(n_workers=4))
    assert found.seconds.low < found.seconds.likely < found.seconds.high
    same = predict(mapped(*[1.0] * 10), Size(n_workers=4)).seconds
    assert same.low == same.likely == same.high
    assert predict(mapped(*[0.5, 1.5] * 10), Size(n_workers=4)) == found


def test_ranges_of_many_tasks() -> None:
    """They are narrow, and come from fewer draws."""
    dice = random.Random(3)
    found = predict(mapped(*(dice.uniform(1, 3) for _ in range(8000))), Size(n_workers=50))
    assert found.seconds.low < found.seconds.likely < found.seconds.high
    assert found.seconds.high < 1.05 * found.seconds.low


def test_costs() -> None:
    """The base for the whole time, and each worker for its own; at least what is billed."""
    rate = Rate(base=3600.0, worker=7200.0, source="example")
    found = predict(mapped(*[1.0] * 4), Size(n_workers=2), rate=rate)
    assert found.cost is not None
    assert found.cost.likely == pytest.approx(found.seconds.likely * 5)
    least = Rate(base=3600.0, worker=7200.0, source="example", least=60.0)
    dear = predict(mapped(*[1.0] * 4), Size(n_workers=2), rate=least).cost
    assert dear is not None
    assert dear.likely == pytest.approx(60 + 4 * 60)
    assert predict(mapped(1.0), Size(n_workers=2)).cost is None


def test_several_runs() -> None:
    """All give durations, and the newest one the graph."""
    both = [mapped(*[1.0] * 8), mapped(*[3.0] * 8)]
    found = predict(both, Size(n_workers=3)).seconds
    assert found.low < found.high
    with pytest.raises(ReportError, match="of the flows etl, other"):
        predict([mapped(1.0), mapped(1.0, flow="other")], Size(n_workers=1))
    with pytest.raises(ReportError, match="no report was given"):
        predict([], Size(n_workers=1))


def test_runs_that_failed_are_left_out() -> None:
    """If another one completed."""
    failed = mapped(1.0, state="Failed")
    assert predict([failed, mapped(1.0, 1.0)], Size(n_workers=1)).seconds.likely > 2
    with pytest.raises(ReportError, match="ended Failed"):
        predict(failed, Size(n_workers=1))


def limit(work: Work, **size: Any) -> tuple[str, str]:
    """Say what limits a work on two workers."""
    on = Size(**{"n_workers": 2, **size})
    found = limit_of(work, on, simulate(work, on))
    return found.kind, found.why


def test_what_limits() -> None:
    """Each kind, with a sentence that has its figures."""
    one = Node(task="work", seconds=1.0, cpu=0.0)
    many = Work(nodes=(one,) * 20, steps=(Step(sends=tuple(range(20))),))
    assert limit(many)[0] == "workers"
    assert limit(many, n_workers=20)[0] == "critical path"
    kind, why = limit(Work(nodes=(one,), steps=(Step(seconds=9.0, sends=(0,)),)))
    assert kind == "client"
    assert "9.0 s of 10.0 s" in why
    long = Node(task="work", seconds=8.0, cpu=0.0)
    straggling = Work(nodes=(*many.nodes, long), steps=(Step(sends=tuple(range(21))),))
    kind, why = limit(straggling, n_workers=20)
    assert kind == "straggler"
    assert "8.0 s" in why
    assert limit(many, fresh=True, startup=60.0)[0] == "start-up"
    hot = Work(nodes=(Node(task="work", seconds=1.0),) * 20, steps=many.steps)
    kind, why = limit(hot, n_workers=8, cores=2)
    assert kind == "machine"
    assert "share 2 cores of one machine, for which tasks wait 70%" in why
    big = Node(task="work", seconds=1.0, memory=2**31)
    assert limit(Work(nodes=(big,), steps=(Step(sends=(0,)),)), memory=2**30)[0] == "memory"
    halves = [Node(task="make", seconds=1.0, output_bytes=10**9) for _ in range(2)]
    pairs = [Node(task="take", seconds=0.5, needs=(0, 1)) for _ in range(4)]
    moving = Work(nodes=(*halves, *pairs), steps=(Step(sends=tuple(range(6))),), bandwidth=1e9)
    assert limit(moving)[0] == "transfers"


def test_no_end_is_told() -> None:
    """As an infinite time, with why."""
    found = Model([Work(nodes=(Node(task="a", seconds=1.0),), steps=(Step(sends=(0,)),))]).glance(
        Size(n_workers=0)
    )
    assert math.isinf(found.seconds.likely)
    assert found.fault
