"""The page's part that says what other sizes would take and cost."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import panel as pn
from bokeh.models import ColumnDataSource, DataRange1d
from bokeh.palettes import Category10
from bokeh.plotting import figure

from daskenv_lab.app.controls import CallControl
from daskenv_lab.view import tune as view

if TYPE_CHECKING:
    from daskenv_lab.tuning import Advice
    from daskenv_lab.view.call import Call
    from daskenv_lab.view.lab import Lab

_HEIGHT = 260
_POINTS = ("price", "seconds", "label", "told", "why", "size")
_BARS = ("worker", "start", "end", "task", "color")


class Tune:
    """A flow, what it may take and cost, the frontier, and two timelines.

    A tap on a point shows the run of its size below the real one.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.advice: Advice | None = None
        self._shown: Advice | None = None
        self.flow = pn.widgets.Select(name="Flow", options={"the last one": ""})
        self.deadline = pn.widgets.TextInput(name="A run may take", placeholder="10m")
        self.budget = pn.widgets.TextInput(name="It may cost", placeholder="2.00")
        self.running = pn.widgets.Checkbox(name="on a cluster that is there")
        self.control = CallControl(lab, "tune", "Tune", self._call, then=self._found)
        self._points = ColumnDataSource({name: [] for name in _POINTS})
        self._lines = [ColumnDataSource({name: [] for name in _BARS}) for _ in range(2)]
        self._table = pn.pane.HTML(sizing_mode="stretch_width")
        self._title = pn.pane.HTML()
        fields = (self.flow, self.deadline, self.budget, self.running)
        for field in fields:
            field.param.watch(self.control.refresh, "value")
        self._points.selected.on_change("indices", self._chosen)
        self.layout = pn.Column(
            pn.Row(*fields),
            self.control.layout,
            pn.pane.Bokeh(self._frontier()),
            self._table,
            pn.pane.HTML("<b>As it ran</b>"),
            pn.pane.Bokeh(_timeline(self._lines[0])),
            self._title,
            pn.pane.Bokeh(_timeline(self._lines[1])),
            sizing_mode="stretch_width",
        )

    def offer(self, flows: list[str]) -> None:
        """Offer the flows that ran."""
        options = {"the last one": "", **{name: name for name in flows}}
        if self.flow.options != options:
            self.flow.options = options

    def show(self) -> None:
        """Show what came of the last call."""
        self.control.show()
        if self.advice is None or self.advice is self._shown:
            return
        advice = self._shown = self.advice
        points = view.points(advice)
        self._points.data = {
            "price": [max(point.price, 1e-9) for point in points],
            "seconds": [point.seconds for point in points],
            "label": [" ".join((point.label, *point.marks)) for point in points],
            "told": [point.told for point in points],
            "why": [point.why for point in points],
            "size": [14 if point.marks else 9 for point in points],
        }
        head, rows = view.table(advice)
        lines = [f"<th scope='col'>{html.escape(cell)}</th>" for cell in head]
        cells = ["".join(f"<td>{html.escape(c)}</td>" for c in row) for row in rows]
        told = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in view.sentences(advice))
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        self._table.object = f"<table><tr>{''.join(lines)}</tr>{body}</table>{told}"
        if advice.knee is not None:
            self._points.selected.indices = [list(advice.frontier).index(advice.knee)]

    def _call(self) -> Call:
        return view.call(
            self.lab.name,
            flow=self.flow.value or "",
            deadline=self.deadline.value or "",
            budget=self.budget.value or "",
            running=self.running.value,
        )

    def _found(self, advice: Advice) -> str:
        # Bokeh's documents are changed in their own loop only: `show` does.
        self.advice = advice
        return f"{len(advice.frontier)} of {advice.looked_at} clusters stand out"

    def _chosen(self, _: str, __: object, indices: list[int]) -> None:
        advice = self._shown
        if not indices or advice is None or advice.model is None or advice.model.report is None:
            return
        suggestion = advice.frontier[indices[0]]
        self._title.object = f"<b>As it would run on {html.escape(view.size_of(suggestion))}</b>"
        measured = view.measured(advice.model.report)
        foreseen = view.foreseen(advice, suggestion.prediction.size)
        tasks = list(dict.fromkeys(bar.task for bar in (*measured, *foreseen)))
        for source, bars in zip(self._lines, (measured, foreseen), strict=True):
            source.data = {
                "worker": [bar.worker for bar in bars],
                "start": [bar.start for bar in bars],
                "end": [bar.end for bar in bars],
                "task": [bar.task for bar in bars],
                "color": [Category10[10][tasks.index(bar.task) % 10] for bar in bars],
            }

    def _frontier(self) -> Any:
        plot = figure(
            title="time (seconds) against cost",
            x_axis_type="log",
            y_axis_type="log",
            height=_HEIGHT,
            sizing_mode="stretch_width",
            toolbar_location=None,
            tools="tap",
            tooltips=[("cluster", "@label"), ("takes", "@told"), ("why", "@why")],
        )
        plot.line("price", "seconds", source=self._points, nonselection_alpha=1.0)
        plot.scatter("price", "seconds", size="size", source=self._points, nonselection_alpha=0.5)
        return plot


def _timeline(source: ColumnDataSource) -> Any:
    plot = figure(
        height=_HEIGHT // 2,
        sizing_mode="stretch_width",
        toolbar_location=None,
        x_range=DataRange1d(start=0),
        tooltips=[("task", "@task"), ("from", "@start{0.00} s"), ("to", "@end{0.00} s")],
    )
    # A row for each worker, without a number that means nothing.
    plot.yaxis.visible = False
    plot.hbar(y="worker", left="start", right="end", height=0.8, color="color", source=source)
    return plot
