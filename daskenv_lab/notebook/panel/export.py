"""Write the tuned settings down for production, and see them first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from daskenv_lab.export import DEFAULT_NAMES
from daskenv_lab.notebook.panel.parts import CallButton, labelled, show, text
from daskenv_lab.view.call import Call
from daskenv_lab.view.preview import preview

if TYPE_CHECKING:
    from pathlib import Path

    from daskenv_lab.view.lab import Lab


class ExportPart(widgets.VBox):  # type: ignore[misc]
    """The format, the file, a preview, and the button that writes it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.format = labelled(widgets.Dropdown, "Format", options=list(DEFAULT_NAMES))
        self.path = labelled(widgets.Text, "File", value=DEFAULT_NAMES["python"])
        self.entrypoint = labelled(
            widgets.Text, "Where the flow is", placeholder="flows.py:etl, bound to its environment"
        )
        self._fields = widgets.VBox([self.format, self.path])
        self.preview = widgets.HTML()
        self.controls = [
            CallButton(lab, "preview", "Preview", self._previewed, then=self._show),
            CallButton(lab, "export", "Write", self._written, then=_wrote),
        ]
        super().__init__([self._fields, *self.controls, self.preview])
        self.format.observe(self._formatted, "value")
        self.path.observe(self.controls[1].refresh, "value")
        self.entrypoint.observe(self._refresh, "value")

    def heard(self, what: str) -> None:
        """Show what came of a control."""
        for control in self.controls:
            control.heard(what)

    def _formatted(self, _: object) -> None:
        self.path.value = DEFAULT_NAMES[self.format.value]
        also = [self.entrypoint] if self.format.value == "prefect" else []
        self._fields.children = [self.format, self.path, *also]
        self._refresh()

    def _refresh(self, *_: object) -> None:
        for control in self.controls:
            control.refresh()

    @property
    def _further(self) -> dict[str, str]:
        if self.format.value != "prefect":
            return {}
        entrypoint = self.entrypoint.value.strip()
        if not entrypoint:
            raise ValueError("say where the flow is, as flows.py:etl")
        return {"entrypoint": entrypoint}

    def _written(self) -> Call:
        if not self.path.value.strip():
            raise ValueError("name the file")
        return Call(
            what="export",
            on=self.lab.name,
            positional=(self.path.value.strip(),),
            arguments={"format": self.format.value, **self._further},
        )

    def _previewed(self) -> Call:
        return preview(self.lab.name, self.format.value, **self._further)

    def _show(self, written: str) -> str:
        show(self.preview, f"<pre>{text(written)}</pre>")
        return ""


def _wrote(path: Path) -> str:
    return f"Wrote {path}"
