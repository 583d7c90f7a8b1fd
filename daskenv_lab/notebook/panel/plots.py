"""Dask's own dashboard, a plot at a time, as long as the cluster runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from daskenv_lab.notebook.dashboard import Dashboard
from daskenv_lab.notebook.panel.parts import show, text

if TYPE_CHECKING:
    from daskenv_lab.view.lab import Lab

_FIRST = "task-stream"


class PlotsPart(widgets.VBox):  # type: ignore[misc]
    """The dashboard of the cluster that runs; another one's is loaded anew."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._told = widgets.HTML()
        self._link: str | None = None
        super().__init__([self._told])
        self.heard("snapshot")

    def heard(self, what: str) -> None:
        """Show the dashboard of the cluster that runs now."""
        if what != "snapshot":
            return
        snapshot = self.lab.snapshot
        link = snapshot.info.dashboard_link if snapshot.running and snapshot.info else None
        if link == self._link:
            show(self._told, "" if link else text("No cluster runs under this name.", "waits"))
            return
        self._link = link
        made = [Dashboard(self.lab.name, pane=_FIRST, link=link)] if link else []
        self.children = [self._told, *made]
