"""Plots of what people look at rather than read: a cluster over time, and its flow runs."""

from __future__ import annotations

import statistics
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import panel as pn
from bokeh.models import (
    AdaptiveTicker,
    ColumnDataSource,
    DataRange1d,
    FactorRange,
    NumeralTickFormatter,
)
from bokeh.plotting import figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskenv_lab.report import FlowRunReport
    from daskenv_lab.view.trail import Point

_HEIGHT = 200
_LINES = (
    ("workers", "workers", "0,0"),
    ("memory", "memory of the workers (bytes)", "0.0 b"),
    ("cost", "cost so far (US dollars)", "$0.0000"),
)


class Plots:
    """The plots of one page."""

    def __init__(self) -> None:
        self._trail = ColumnDataSource({"at": [], "workers": [], "memory": [], "cost": []})
        self._runs = ColumnDataSource({"at": [], "duration": [], "flow": [], "state": []})
        self._tasks = ColumnDataSource({"task": [], "duration": []})
        self.cluster = pn.Row(
            *(
                pn.pane.Bokeh(_over_time(self._trail, name, title, shown))
                for name, title, shown in _LINES
            ),
            sizing_mode="stretch_width",
        )
        runs = figure(
            title="flow runs (seconds)",
            x_axis_type="datetime",
            height=_HEIGHT,
            sizing_mode="stretch_width",
            x_range=DataRange1d(default_span=timedelta(minutes=5)),
            y_range=DataRange1d(start=0),
            toolbar_location=None,
            tooltips=[("flow", "@flow"), ("state", "@state"), ("seconds", "@duration{0.00}")],
        )
        runs.scatter("at", "duration", source=self._runs, size=9)
        self._names = FactorRange()
        tasks = figure(
            title="the last run's tasks (median seconds)",
            x_range=self._names,
            height=_HEIGHT,
            sizing_mode="stretch_width",
            toolbar_location=None,
        )
        tasks.vbar(x="task", top="duration", width=0.7, source=self._tasks)
        self.runs = pn.Row(pn.pane.Bokeh(runs), pn.pane.Bokeh(tasks), sizing_mode="stretch_width")

    def show_cluster(self, points: Sequence[Point]) -> None:
        """Show a cluster's figures over time; only what is new is sent."""
        last = self._trail.data["at"][-1] if self._trail.data["at"] else None
        fresh = [point for point in points if last is None or point.at > last]
        if not points and last is not None:
            self._trail.data = {str(name): [] for name in self._trail.data}
        if fresh:
            self._trail.stream(
                {
                    "at": [point.at for point in fresh],
                    "workers": [point.workers for point in fresh],
                    "memory": [point.memory for point in fresh],
                    "cost": [point.cost for point in fresh],
                },
                rollover=3600,
            )

    def show_runs(self, reports: Sequence[FlowRunReport]) -> None:
        """Show the runs over time, and how long the newest one's tasks took."""
        self._runs.data = {
            "at": [report.start for report in reports],
            "duration": [report.duration for report in reports],
            "flow": [report.flow for report in reports],
            "state": [report.state for report in reports],
        }
        medians = _medians(reports[0]) if reports else {}
        self._names.factors = list(medians)
        self._tasks.data = {"task": list(medians), "duration": list(medians.values())}


def _medians(report: FlowRunReport) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run in report.task_runs:
        if run.duration is not None:
            found.setdefault(run.task, []).append(run.duration)
    return {task: statistics.median(durations) for task, durations in found.items()}


def _over_time(source: ColumnDataSource, name: str, title: str, shown: str) -> Any:
    plot = figure(
        title=title,
        x_axis_type="datetime",
        height=_HEIGHT,
        sizing_mode="stretch_width",
        y_range=DataRange1d(start=0),
        toolbar_location=None,
    )
    plot.step("at", name, source=source, mode="after", line_width=2)
    plot.yaxis.formatter = NumeralTickFormatter(format=shown)
    if name == "workers":
        plot.yaxis.ticker = AdaptiveTicker(min_interval=1, num_minor_ticks=0)
    return plot
