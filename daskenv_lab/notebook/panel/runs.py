"""The history of flow runs, and the last two of a flow side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from daskenv_lab import history
from daskenv_lab.notebook.panel.parts import WIDE, link, show, table, text

if TYPE_CHECKING:
    from daskenv_lab.view.lab import Lab

_SHOWN = 10


class RunsPart(widgets.VBox):  # type: ignore[misc]
    """The last flow runs on the cluster, whoever ran them on this machine."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.table, self.compared = widgets.HTML(layout=WIDE), widgets.HTML(layout=WIDE)
        super().__init__([self.table, self.compared])

    def heard(self, what: str) -> None:
        """Show the runs anew where there is another."""
        if what != "runs":
            return
        from daskenv_lab.view.runs import compare, rows

        reports = history.last(_SHOWN, cluster=self.lab.name)
        head = ("flow", "run", "state", "duration", "task runs", "peak memory", "started")
        cells = [
            (
                text(row.flow),
                link(row.url, row.name),
                text(row.state),
                text(row.duration),
                text(row.tasks),
                text(row.memory),
                text(row.started),
            )
            for row in rows(reports)
        ]
        show(self.table, table(head, cells) if cells else text("No flow ran here yet.", "waits"))
        compared = [
            [text(cell) for cell in (c.figure, c.last, c.before, c.change)]
            for c in compare(reports)
        ]
        columns = ("of the last run", "last", "the one before", "change")
        show(self.compared, table(columns, compared) if compared else "")
