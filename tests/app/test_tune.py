"""The page's tab that tunes, over a run that was kept: no cluster is needed."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

from daskenv_lab import history
from daskenv_lab.app.tune import Tune
from daskenv_lab.view.lab import Lab
from tests.tuning.reports import flow_run, task_run, waited
from tests.waiting import until


@pytest.fixture
def tune(tmp_path: Path) -> Iterator[Tune]:
    """Give the tab of a name that nobody uses, over a run of thirty tasks on two workers."""
    runs = [task_run(i, 0.5 + i // 2, 1.0, submitted=0.5, worker=f"w{i % 2}") for i in range(30)]
    with dask.config.set({"daskenv.state-dir": str(tmp_path)}):
        history.keep(flow_run(*runs, waits=(waited(0.5, 15.5, *range(30)),), duration=16.0))
        yield Tune(Lab("tuned"))


def shown(pane: Any) -> str:
    """Give the text of a pane."""
    return html.unescape(re.sub("<[^>]*>", " ", pane.object or ""))


def seen(tune: Tune, words: str) -> bool:
    """Look as the page does each second, and tell whether the control says some words."""
    tune.show()
    return words in shown(tune.control._said)


def test_a_flow_is_tuned(tune: Tune) -> None:
    """The call is shown; then the plot, the table, and the run of the knee below the real one."""
    tune.offer(["etl"])
    tune.flow.value, tune.deadline.value = "etl", "10s"
    assert "daskenv_lab.tune(name='tuned', flow='etl', deadline=10.0)" in shown(tune.control._code)
    tune.control.button.clicks += 1
    until(lambda: seen(tune, "clusters stand out"))
    advice = tune.advice
    assert advice is not None
    assert advice.knee is not None
    points = tune._points.data
    assert len(points["price"]) == len(points["why"]) == len(advice.frontier)
    assert tune._points.selected.indices == [advice.frontier.index(advice.knee)]
    assert "Cheapest within 10 s: " in shown(tune._table)
    measured, foreseen = tune._lines
    assert set(measured.data["worker"]) == {0, 1}
    assert len(measured.data["task"]) == len(foreseen.data["task"]) == 30


def test_a_point_that_is_tapped_shows_its_run(tune: Tune) -> None:
    """Its timeline takes the place of the former one; the real one stays."""
    tune.control.button.clicks += 1
    until(lambda: seen(tune, "clusters stand out"))
    real = dict(tune._lines[0].data)
    tune._points.selected.indices = [0]
    assert shown(tune._title).strip() == "As it would run on 1 worker"
    assert set(tune._lines[1].data["worker"]) == {0}
    assert tune._lines[0].data == real


def test_what_cannot_be_tuned_is_told(tune: Tune) -> None:
    """A wrong field is one sentence, and nothing is called."""
    tune.deadline.value = "soon"
    sentence = "'soon' is no time; write it as 90, 30m or 2 hours"
    assert shown(tune.control._code) == sentence
    tune.control.button.clicks += 1
    assert seen(tune, sentence)
    assert tune.advice is None
