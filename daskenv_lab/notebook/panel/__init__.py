"""The control panel in a notebook: ipywidgets over the view model, and nothing that decides."""

from daskenv_lab.notebook.panel.frame import LabPanel, panel

__all__ = ["LabPanel", "panel"]
