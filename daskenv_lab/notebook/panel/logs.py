"""The last lines of the logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from daskenv_lab.notebook.panel.parts import CallButton, show, text
from daskenv_lab.view.call import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskenv_lab.view.lab import Lab

_LINES = 20


class LogsPart(widgets.VBox):  # type: ignore[misc]
    """The scheduler's and each worker's last lines, asked for by a button."""

    def __init__(self, lab: Lab) -> None:
        self.lines = widgets.HTML()
        self.button = CallButton(
            lab,
            "logs",
            "Show the last lines",
            lambda: Call(what="logs", on=lab.name, arguments={"lines": _LINES}),
            then=self._show,
        )
        super().__init__([self.button, self.lines])

    def heard(self, what: str) -> None:
        """Show what came of the button."""
        self.button.heard(what)

    def _show(self, told: Mapping[str, str]) -> str:
        shown = "\n\n".join(f"{who}\n{lines}" for who, lines in told.items())
        show(self.lines, f"<pre>{text(shown)}</pre>")
        return ""
