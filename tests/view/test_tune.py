"""What `tune` found, as points and timelines."""

from __future__ import annotations

import pytest

from daskenv_lab import DaskGatewayEnvironment
from daskenv_lab.tuning import Advice, Conditions, Model, Size, advise, candidates
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


def advice(**asked: float) -> Advice:
    """Advise on a map of twenty seconds."""
    conditions = Conditions(recorded=REPORT.workers[0], startup=2.0)
    looked_at = candidates(DaskGatewayEnvironment("local"), conditions, most=8)
    model = Model.of([REPORT])
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
    assert told["knee"]["cluster"] == size_of(advice().knee or advice().frontier[0])


def test_the_call_of_what_is_typed() -> None:
    """Empty fields are left out; what is no time or amount is told."""
    typed = {"flow": "etl", "deadline": "10m", "budget": " $2.50 ", "running": True}
    assert call("dev", **typed).code == (  # type: ignore[arg-type]
        "daskenv_lab.tune(name='dev', flow='etl', deadline=600.0, budget=2.5, fresh=False)"
    )
    empty = call("dev", flow="", deadline="", budget="", running=False)
    assert empty.code == "daskenv_lab.tune(name='dev')"
    with pytest.raises(ValueError, match="'soon' is no time; write it as 90, 30m or 2 hours"):
        call("dev", flow="", deadline="soon", budget="", running=False)
    with pytest.raises(ValueError, match=r"'much' is no amount; write it as 2\.50"):
        call("dev", flow="", deadline="", budget="much", running=False)
    assert flows([REPORT, flow_run(), flow_run(*RUNS, flow="other")]) == ["etl", "other"]
