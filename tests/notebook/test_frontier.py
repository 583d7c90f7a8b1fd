"""The widget that shows what `tune` found."""

from __future__ import annotations

from daskenv_lab.notebook.frontier import Frontier
from tests.view.test_tune import advice


def test_it_holds_the_points_and_the_run_of_the_knee() -> None:
    """Choosing another point shows its run."""
    found = advice()
    widget = Frontier(found)
    assert len(widget.points) == len(found.frontier)
    assert widget.points[widget.chosen]["marks"].count("knee") == 1
    assert len(widget.timelines["measured"]) == 20
    widget.chosen = 0
    assert widget.timelines["title"] == "As it would run on 1 worker"
    assert {bar[0] for bar in widget.timelines["foreseen"]} == {0}
    assert repr(widget).startswith("Cheapest: ")
