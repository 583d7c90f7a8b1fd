"""The whole panel: its first line, and a tab for each thing that people do."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from daskenv_lab import config
from daskenv_lab.notebook.panel.cluster import ClusterPart
from daskenv_lab.notebook.panel.export import ExportPart
from daskenv_lab.notebook.panel.flows import FlowPart
from daskenv_lab.notebook.panel.logs import LogsPart
from daskenv_lab.notebook.panel.parts import STYLE, WIDE, show, text
from daskenv_lab.notebook.panel.plots import PlotsPart
from daskenv_lab.notebook.panel.runs import RunsPart
from daskenv_lab.notebook.panel.start import StartPart
from daskenv_lab.notebook.panel.tune import TunePart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from daskenv_lab.view.lab import Lab


class LabPanel(widgets.VBox):  # type: ignore[misc]
    """A panel for one named cluster, in a notebook.

    Parameters
    ----------
    lab : Lab
        What it shows and does; two panels of one name share it.
    namespace : mapping
        The notebook's variables, among which the flows are.
    """

    def __init__(self, lab: Lab, namespace: Mapping[str, Any]) -> None:
        self.lab = lab
        workers = config.whole("workers")
        self.headline = widgets.HTML(layout=WIDE)
        self.start, self.cluster = StartPart(lab, workers), ClusterPart(lab, workers)
        self.flows, self.runs = FlowPart(lab, namespace), RunsPart(lab)
        self.plots, self.tune = PlotsPart(lab), TunePart(lab)
        self.export, self.logs = ExportPart(lab), LogsPart(lab)
        self._parts: dict[str, Any] = {
            "Start": self.start,
            "Cluster": self.cluster,
            "Plots": self.plots,
            "Run a flow": self.flows,
            "Runs": self.runs,
            "Tune": self.tune,
            "Export": self.export,
            "Logs": self.logs,
        }
        self.tabs = widgets.Tab(list(self._parts.values()), titles=list(self._parts))
        super().__init__([widgets.HTML(STYLE), self.headline, self.tabs], layout=WIDE)
        self.add_class("daskenv")
        self._shown = False
        # What others have heard already: the cluster, the runs, and what came of each control.
        for what in ("snapshot", "runs", "progress", *lab.said):
            self._heard(what)
        self._end: Callable[[], None] = lab.listen(self._heard)

    def close(self) -> None:
        """End the panel; the cluster lives on."""
        self._end()
        for part in _parts_of(self):
            part.close()
        super().close()

    def _heard(self, what: str) -> None:
        """Show what changed; called in the threads of the view model."""
        if what == "snapshot":
            snapshot = self.lab.snapshot
            wrong = snapshot.state in ("gone", "unreachable")
            show(self.headline, text(snapshot.headline, "failed" if wrong else "headline"))
            if snapshot.running and not self._shown:
                self._shown = True
                self.tabs.selected_index = list(self._parts).index("Cluster")
        for part in self._parts.values():
            part.heard(what)


def _parts_of(widget: Any) -> Iterator[Any]:
    """Go through all widgets that one is made of, also those that it does not show now."""
    own = (v for v in vars(widget).values() if isinstance(v, widgets.Widget))
    for part in {*own, *getattr(widget, "children", ())}:
        yield from _parts_of(part)
        yield from (p for p in (part.layout, getattr(part, "style", None)) if p not in (None, WIDE))
        yield part


_panels: dict[tuple[str, str], LabPanel] = {}
"""The panels that are shown, by their notebook cell and cluster."""


def _end_former(shell: Any, made: LabPanel) -> None:
    """End the panel that the same cell showed before; JupyterLab names the cell that runs."""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = (parent.get("metadata") or {}).get("cellId")
    if cell is None:
        return
    former = _panels.get((cell, made.lab.name))
    _panels[cell, made.lab.name] = made
    if former is not None:
        former.close()


def panel(name: str | None = None, namespace: Mapping[str, Any] | None = None) -> LabPanel:
    """Give a panel for a named cluster, which may not run yet.

    Parameters
    ----------
    name : str, optional
        By default the cluster used last in this process, or ``daskenv.name``.
    namespace : mapping, optional
        Where flows are looked for; by default the notebook's variables.

    Raises
    ------
    ConfigError
        The name could not be a cluster's.

    Examples
    --------
    >>> panel("dev")  # doctest: +SKIP
    """
    from IPython import get_ipython

    from daskenv_lab.session import current
    from daskenv_lab.view.lab import lab_of

    last = current()
    shell = get_ipython()
    found = namespace if namespace is not None else getattr(shell, "user_ns", {})
    made = LabPanel(lab_of(name or (last.name if last else None)), found)
    _end_former(shell, made)
    # They import Prefect and Dask, which takes longer than a panel may take to appear.
    for look in (made.start.ask, made.flows.look_for_flows):
        threading.Thread(target=look, daemon=True).start()
    return made
