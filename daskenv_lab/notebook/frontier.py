"""A widget that shows what `tune` found: time against cost, and a size's run as it would go."""

from __future__ import annotations

from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from daskenv_lab.notebook.scripts import source
from daskenv_lab.view import tune as view

if TYPE_CHECKING:
    from daskenv_lab.tuning import Advice


class Frontier(anywidget.AnyWidget):
    """The clusters that no other one beats, as points that can be pointed at and chosen.

    The run of the size that is chosen is simulated when it is chosen.

    Parameters
    ----------
    advice : Advice
        What `tune` gave.

    Examples
    --------
    >>> Frontier(daskenv_lab.tune())  # doctest: +SKIP
    """

    _esm = source("frontier.js")
    _css = source("frontier.css")

    title = traitlets.Unicode().tag(sync=True)
    unit = traitlets.Unicode().tag(sync=True)
    points = traitlets.List().tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)
    timelines = traitlets.Dict().tag(sync=True)

    def __init__(self, advice: Advice) -> None:
        self.advice = advice
        super().__init__(
            title=f"What {advice.flow} would take and cost",
            unit="US dollars for a run" if advice.money else "hours of workers for a run",
            points=[asdict(point) for point in view.points(advice)],
            timelines={"measured": [], "foreseen": [], "title": ""},
        )
        self.observe(self._choose, "chosen")
        if advice.knee is not None:
            self.chosen = list(advice.frontier).index(advice.knee)

    def __repr__(self) -> str:
        return "\n".join(view.sentences(self.advice))

    def _choose(self, change: Any) -> None:
        index, model = change["new"], self.advice.model
        if not 0 <= index < len(self.advice.frontier) or model is None or model.report is None:
            return
        suggestion = self.advice.frontier[index]
        bars = view.foreseen(self.advice, suggestion.prediction.size)
        self.timelines = {
            "measured": [astuple(bar) for bar in view.measured(model.report)],
            "foreseen": [astuple(bar) for bar in bars],
            "title": f"As it would run on {view.size_of(suggestion)}",
        }
