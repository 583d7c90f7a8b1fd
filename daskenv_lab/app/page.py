"""The page: the same view model as the notebook's panel, with plots of what changes."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import panel as pn

from daskenv_lab import config, history
from daskenv_lab.app.controls import CallControl, FlowForm, Start
from daskenv_lab.app.plots import Plots
from daskenv_lab.app.tune import Tune
from daskenv_lab.view.actions import actions
from daskenv_lab.view.preview import preview
from daskenv_lab.view.runs import compare, rows
from daskenv_lab.view.tune import flows as tuned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prefect import Flow

    from daskenv_lab.view.actions import Action
    from daskenv_lab.view.lab import Lab

_SHOWN = 20
_PERIOD = 1000
"""Milliseconds between two looks at the view model, which looks at the cluster by itself."""


def page(lab: Lab, flows: Mapping[str, Flow[..., Any]]) -> pn.viewable.Viewable:
    """Give the page for one browser tab; all tabs show the same view model.

    Parameters
    ----------
    lab : Lab
        What it shows and does.
    flows : mapping
        The flows that can be run, by the word that finds them.

    Examples
    --------
    >>> page(lab_of("dev"), {}).servable()  # doctest: +SKIP
    """
    return Page(lab, flows).layout


class Page:
    """What one tab shows."""

    def __init__(self, lab: Lab, flows: Mapping[str, Flow[..., Any]]) -> None:
        self.lab = lab
        self._newest: tuple[str, ...] | None = None
        self.headline = pn.pane.HTML(sizing_mode="stretch_width")
        self.facts = pn.pane.HTML(sizing_mode="stretch_width")
        self.runs = pn.pane.HTML(sizing_mode="stretch_width")
        self.plots, self.tune = Plots(), Tune(lab)
        self.start, self.form = Start(lab), FlowForm(lab, flows)
        workers = config.whole("workers")
        self.workers = pn.widgets.IntInput(name="Workers", value=workers, start=0)
        known = actions(lab.name, workers=workers)
        self.scale = _control(lab, known["scale"], lambda: {"n": self.workers.value})
        self.stop = _control(lab, known["stop"], dict)
        self.down = _control(lab, known["down"], dict)
        self.format = pn.widgets.Select(name="Format", options=["python", "json", "dask"])
        self.text = pn.pane.HTML(sizing_mode="stretch_width")
        self.export = CallControl(
            lab,
            "preview",
            "Preview",
            lambda: preview(lab.name, self.format.value),
            then=self._previewed,
        )
        self.controls = (
            self.start,
            self.scale,
            self.down,
            self.form.button,
            self.stop,
            self.export,
            self.tune,
        )
        self.workers.param.watch(self.scale.refresh, "value")
        self.format.param.watch(self.export.refresh, "value")
        self.layout = pn.Column(
            self.headline,
            pn.Tabs(
                ("Start", self.start.layout),
                (
                    "Cluster",
                    pn.Column(
                        self.facts,
                        self.plots.cluster,
                        self.workers,
                        self.scale.layout,
                        self.down.layout,
                    ),
                ),
                ("Run a flow", pn.Column(self.form.layout, self.stop.layout)),
                ("Runs", pn.Column(self.plots.runs, self.runs)),
                ("Tune", self.tune.layout),
                ("Export", pn.Column(self.format, self.export.layout, self.text)),
                sizing_mode="stretch_width",
            ),
            sizing_mode="stretch_width",
        )
        self.refresh()
        # Bokeh's documents are changed in their own loop only, so that the page looks, and is
        # not told.
        self.close = lab.listen(lambda _: None)
        if pn.state.curdoc is not None:
            # What changes before the browser has the page may be lost on the way.
            pn.state.onload(self._keep_looking)
            pn.state.on_session_destroyed(lambda _: self.close())

    def refresh(self) -> None:
        """Show what the view model has now."""
        snapshot = self.lab.snapshot
        _show(self.headline, f"<h2>{html.escape(snapshot.headline)}</h2>")
        cells = [f"<b>{word}</b> {html.escape(value)}" for word, value in snapshot.facts]
        _show(self.facts, " · ".join(cells) or html.escape(snapshot.sentence))
        self.plots.show_cluster(self.lab.trail.points)
        for control in self.controls:
            control.show()
        self.form.show()
        reports = history.last(_SHOWN, cluster=self.lab.name)
        newest = tuple(report.flow_run_id for report in reports)
        if newest != self._newest:
            self._newest = newest
            self.tune.offer(tuned(reports))
            self.plots.show_runs(reports)
            _show(self.runs, _runs_table(reports))

    def _keep_looking(self) -> None:
        pn.state.add_periodic_callback(self.refresh, period=_PERIOD)

    def _previewed(self, text: str) -> str:
        self.text.object = f"<pre>{html.escape(text)}</pre>"
        return ""


def _control(lab: Lab, action: Action, values: Callable[[], dict[str, Any]]) -> CallControl:
    return CallControl(
        lab,
        action.control,
        action.label,
        lambda: action.call(**values()),
        then=lambda _: action.done,
        sure=action.sure,
    )


def _runs_table(reports: Any) -> str:
    if not reports:
        return "No flow ran here yet."
    head = ("flow", "run", "state", "duration", "task runs", "peak memory", "started")
    body = [
        (row.flow, row.name, row.state, row.duration, row.tasks, row.memory, row.started)
        for row in rows(reports)
    ]
    compared = [(c.figure, c.last, c.before, c.change) for c in compare(reports)]
    told = _table(head, body)
    if compared:
        told += _table(("of the last run", "last", "the one before", "change"), compared)
    return told


def _table(head: tuple[str, ...], body: Sequence[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...], kind: str) -> str:
        return "".join(f"<{kind}>{html.escape(str(cell))}</{kind}>" for cell in cells)

    lines = "".join(f"<tr>{line(cells, 'td')}</tr>" for cells in body)
    return f"<table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{lines}</tbody></table>"


def _show(pane: pn.pane.HTML, value: str) -> None:
    if pane.object != value:
        pane.object = value
