"""What `tune` found, as points and timelines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daskenv_lab import DaskGatewayEnvironment
from daskenv_lab.errors import ReportError
from daskenv_lab.report import FlowRunReport
from daskenv_lab.tuning import Advice, Conditions, Model, Range, Size, advise, candidates
from daskenv_lab.view.tune import (
    call,
    flows,
    foreseen,
    measured,
    points,
    sentences,
    size_of,
    table,
    written,
)
from tests.tuning.reports import flow_run, task_run, waited

RUNS = [task_run(i, 0.5 + i // 2, 1.0, submitted=0.5, worker=f"w{i % 2}") for i in range(20)]
REPORT = flow_run(*RUNS, waits=(waited(0.5, 10.5, *range(20)),), duration=11.0)


def advice(report: FlowRunReport = REPORT, **asked: float) -> Advice:
    """Advise on a map of twenty seconds, or on another run."""
    conditions = Conditions(recorded=report.workers[0], startup=2.0)
    looked_at = candidates(DaskGatewayEnvironment("local"), conditions, most=8)
    model = Model.of([report])
    return advise(model, looked_at, flow="etl", conditions=conditions, **asked)


def test_points() -> None:
    """One for each cluster of the frontier, those that stand out with a word."""
    found = advice()
    drawn = points(found)
    assert len(drawn) == len(found.frontier)
    assert [p.price for p in drawn] == sorted(p.price for p in drawn)
    assert {mark for p in drawn for mark in p.marks} == {"cheapest", "fastest", "knee"}
    assert drawn[0].label == "1 worker"
    assert all(p.low <= p.seconds <= p.high for p in drawn)
    head, rows = table(found)
    assert all(len(row) == len(head) for row in rows)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ((16.0, 16.01, 16.02), "16.0 s"),
        ((68.1, 66.2, 73.0), "68.1 s (66.2 to 73.0)"),
        ((160.0, 153.5, 168.5), "2.7 min (2.6 to 2.8)"),
        ((9000.0, 8640.0, 9360.0), "2.5 h (2.4 to 2.6)"),
    ],
)
def test_a_time_and_its_range_have_one_unit(seconds: tuple[float, ...], told: str) -> None:
    """Whatever the unit is, the range can be read with it."""
    assert _first_row(seconds=Range(*seconds))[1] == told


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"cost": Range(0.12, 0.1, 0.15)}, "$0.1200 ($0.1000 to $0.1500)"),
        ({"cost": Range(0.12, 0.12, 0.12)}, "$0.1200"),
        (
            {"cost": None, "worker_seconds": Range(360.0, 324.0, 396.0)},
            "0.100 worker hours (0.090 to 0.110)",
        ),
    ],
)
def test_a_cost_has_a_range(figures: dict[str, Range | None], told: str) -> None:
    """In US dollars, or in hours of workers where nobody knows a price."""
    assert _first_row(**figures)[2] == told


def _first_row(**figures: Range | None) -> tuple[str, ...]:
    """Give the table's row of a cluster with these figures."""
    found = advice()
    first = found.frontier[0]
    shown = replace(first, prediction=replace(first.prediction, **figures))  # type: ignore[arg-type]
    return table(replace(found, frontier=(shown,)))[1][0]


def test_no_cluster_would_do() -> None:
    """It is said which task needs how much, and nothing else is said of sizes or prices."""
    large = [replace(run, memory=3 * 2**30) for run in RUNS]
    report = replace(REPORT, task_runs=tuple(large))
    found = advice(report=report, deadline=5.0)
    assert not found.frontier
    (told,) = sentences(found)
    assert told.startswith("None of 11 clusters would end the run: a worker that runs 'work' needs")
    assert "3.1 GiB" in told
    assert told.endswith("give workers more memory, or look at another profile.")


def test_nearest_to_a_bound_is_what_is_shown_as_nearest() -> None:
    """Drawn durations may put the frontier out of order; the figures that are shown decide."""
    found = advice(deadline=0.1, budget=1e-9)
    turned = replace(found, frontier=found.frontier[::-1])
    assert sentences(turned) == sentences(found)
    assert f"nearest is {size_of(found.frontier[0])} with" in sentences(found)[1]


def test_the_measured_timeline() -> None:
    """As it ran: two workers, ten tasks each, one after another."""
    bars = measured(REPORT)
    assert len(bars) == 20
    assert {bar.worker for bar in bars} == {0, 1}
    assert bars[0].start == 0.5
    assert max(bar.end for bar in bars) == 10.5


def test_the_predicted_timeline() -> None:
    """On the recorded size it is the measured one; on more workers it is shorter."""
    found = advice()
    same = foreseen(found, Size(n_workers=2))
    assert max(bar.end for bar in same) == 10.5
    assert [(b.worker, b.start, b.end) for b in same] == [
        (b.worker, b.start, b.end) for b in measured(REPORT)
    ]
    assert max(bar.end for bar in foreseen(found, Size(n_workers=20))) == 1.5


def test_sentences() -> None:
    """Each with what was asked for."""
    told = sentences(advice(deadline=9.0, budget=0.01))
    assert told[0].startswith("Cheapest within 9 s: ")
    assert told[1].startswith("Fastest for 0.01 worker hours: ")
    assert told[2].startswith("Knee: ")


def test_in_json() -> None:
    """With the environment of each."""
    told = written(advice(deadline=0.1))
    assert told["cheapest"] is None
    assert (told["deadline"], told["budget"], told["unit"]) == (0.1, None, "worker hours")
    assert told["knee"]["cluster"] == size_of(advice().knee or advice().frontier[0])


def test_the_call_of_what_is_typed() -> None:
    """Empty fields are left out; what is no time or amount is told."""
    typed = {"flow": "etl", "deadline": "10m", "budget": " $2.50 ", "running": True}
    assert call("dev", **typed).code == (  # type: ignore[arg-type]
        "daskenv_lab.tune(name='dev', flow='etl', deadline=600.0, budget=2.5, fresh=False)"
    )
    empty = call("dev", flow="", deadline="", budget="", running=False)
    assert empty.code == "daskenv_lab.tune(name='dev')"
    with pytest.raises(ReportError, match="'soon' is no time; write it as 90, 30m or 2 hours"):
        call("dev", flow="", deadline="soon", budget="", running=False)
    with pytest.raises(ReportError, match=r"'much' is no amount; write it as 2\.50"):
        call("dev", flow="", deadline="", budget="much", running=False)
    for odd in ("nan", "inf", "-2"):
        with pytest.raises(ReportError, match=f"'{odd}' is no amount"):
            call("dev", flow="", deadline="", budget=odd, running=False)
    assert flows([REPORT, flow_run(), flow_run(*RUNS, flow="other")]) == ["etl", "other"]
