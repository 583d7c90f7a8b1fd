"""What other sizes of the cluster would take and cost, from the last runs of a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from daskenv_lab import history
from daskenv_lab.notebook.panel.parts import WIDE, CallButton, labelled, show, table, text
from daskenv_lab.view import tune as view

if TYPE_CHECKING:
    from daskenv_lab.tuning import Advice
    from daskenv_lab.view.call import Call
    from daskenv_lab.view.lab import Lab

_LOOKED_AT = 50
"""Runs among which flows are looked for."""


class TunePart(widgets.VBox):  # type: ignore[misc]
    """A flow, what it may take and cost, and what came of it as a plot and a table."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.flow = labelled(widgets.Dropdown, "Flow", options=[("the last one", "")])
        self.deadline = labelled(widgets.Text, "A run may take", placeholder="10m")
        self.budget = labelled(widgets.Text, "It may cost", placeholder="2.00")
        self.running = widgets.Checkbox(
            description="on a cluster that is there", indent=False, value=False
        )
        self.button = CallButton(lab, "tune", "Tune", self._call, then=self._show)
        self.found, self.told = widgets.VBox(), widgets.HTML(layout=WIDE)
        fields = [self.flow, self.deadline, self.budget, self.running]
        for field in fields:
            field.observe(self.button.refresh, "value")
        super().__init__([*fields, self.button, self.found, self.told])

    def heard(self, what: str) -> None:
        """Offer the flows that ran, and show what came of the button."""
        if what == "runs":
            known = view.flows(history.last(_LOOKED_AT))
            options = [("the last one", ""), *((name, name) for name in known)]
            if list(self.flow.options) != options:
                kept = self.flow.value
                self.flow.options = options
                self.flow.value = kept if kept in known else ""
        self.button.heard(what)

    def _call(self) -> Call:
        return view.call(
            self.lab.name,
            flow=self.flow.value,
            deadline=self.deadline.value,
            budget=self.budget.value,
            running=self.running.value,
        )

    def _show(self, advice: Advice) -> str:
        from daskenv_lab.notebook.frontier import Frontier

        for former in self.found.children:
            former.close()
        self.found.children = [Frontier(advice)]
        head, rows = view.table(advice)
        sentences = "".join(f"<p>{text(told)}</p>" for told in view.sentences(advice))
        show(self.told, table(head, [[text(cell) for cell in row] for row in rows]) + sentences)
        return f"{len(advice.frontier)} of {advice.looked_at} clusters stand out"
