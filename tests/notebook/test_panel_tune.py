"""The panel's tab that tunes, over a run that was kept: no cluster is needed."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

from daskenv_lab import history
from daskenv_lab.notebook.panel.tune import TunePart
from daskenv_lab.view.lab import Lab
from tests.tuning.reports import flow_run, task_run, waited
from tests.waiting import until


@pytest.fixture
def part(tmp_path: Path) -> Iterator[TunePart]:
    """Give the tab of a name that nobody uses, which hears what its view model tells."""
    runs = [task_run(i, 0.5 + i // 2, 1.0, submitted=0.5, worker=f"w{i % 2}") for i in range(30)]
    with dask.config.set({"daskenv.state-dir": str(tmp_path), "daskenv.panel.interval": "200 ms"}):
        history.keep(flow_run(*runs, waits=(waited(0.5, 15.5, *range(30)),), duration=16.0))
        lab = Lab("tuned")
        made = TunePart(lab)
        end = lab.listen(made.heard)
        yield made
        end()
        # The thread that looks at the cluster reads this folder until it ends.
        until(lambda: lab._thread is None)


def shown(widget: Any) -> str:
    """Give the text of an HTML widget."""
    return html.unescape(re.sub("<[^>]*>", " ", widget.value))


def test_a_flow_is_tuned(part: TunePart) -> None:
    """The call is shown as it is typed; then the plot, the table and what stands out."""
    until(lambda: "etl" in dict(part.flow.options))
    part.flow.value, part.deadline.value, part.running.value = "etl", "10s", True
    code = "daskenv_lab.tune(name='tuned', flow='etl', deadline=10.0, fresh=False)"
    assert shown(part.button._code).strip() == code
    part.button.button.click()
    until(lambda: "clusters stand out" in shown(part.button._outcome))
    (frontier,) = part.found.children
    assert len(frontier.points) == len(frontier.advice.frontier)
    assert len(frontier.timelines["measured"]) == 30
    assert "Cheapest within 10 s: " in shown(part.told)
    assert "limited by" in shown(part.told)
    part.button.button.click()
    until(lambda: part.found.children != (frontier,))
    assert frontier.comm is None


def test_what_cannot_be_tuned_is_told(part: TunePart) -> None:
    """A wrong field before anything is called, and a bound that nothing keeps after."""
    part.budget.value = "much"
    assert shown(part.button._code).strip() == "'much' is no amount; write it as 2.50"
    part.button.button.click()
    assert "'much' is no amount" in shown(part.button._outcome)
    assert part.found.children == ()
    part.budget.value, part.deadline.value = "", "1s"
    part.button.button.click()
    until(lambda: "clusters stand out" in shown(part.button._outcome))
    assert "Cheapest within 1 s: none of " in shown(part.told)


def test_without_runs(part: TunePart, tmp_path: Path) -> None:
    """One sentence below the control."""
    for kept in (tmp_path / "runs").rglob("*.json*"):
        kept.unlink()
    part.button.button.click()
    until(lambda: "no flow run with tasks was recorded" in shown(part.button._outcome))
    assert "failed" in part.button._outcome.value
