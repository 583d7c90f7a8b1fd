"""A widget that embeds a Dask dashboard, or one plot of it, in the output of a cell."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from daskenv_lab.notebook.scripts import source
from daskenv_lab.server.panes import PANES, address_of


class Dashboard(anywidget.AnyWidget):
    """Shows one cluster's dashboard; the browser asks our Jupyter Server extension for it.

    The kernel cannot know under which address the browser sees Jupyter, so that the browser
    builds the address. Where the extension is not, the link is shown, with why.

    Parameters
    ----------
    name : str
        The cluster's.
    pane : str
        What is shown, such as ``"task-stream"``.
    height : int
        Pixels.
    link : str
        The dashboard's address, as a browser on the kernel's machine reaches it.

    Examples
    --------
    >>> Dashboard(name="dev", pane="cpu", link="http://127.0.0.1:8787/status")
    The Dask dashboard of dev: http://127.0.0.1:8787/individual-cpu
    """

    _esm = source("jupyter.js", "dashboard.js")
    _css = source("dashboard.css")

    name = traitlets.Unicode().tag(sync=True)
    pane = traitlets.Enum(list(PANES), "status").tag(sync=True)
    # The whole dashboard's plots lie on one another below 420.
    height = traitlets.Int(460).tag(sync=True)
    link = traitlets.Unicode().tag(sync=True)
    panes = traitlets.List(traitlets.Unicode(), list(PANES), read_only=True).tag(sync=True)

    def __init__(self, name: str, **traits: Any) -> None:
        super().__init__(name=name, **traits)

    def __repr__(self) -> str:
        return f"The Dask dashboard of {self.name}: {address_of(self.link, self.pane)}"
