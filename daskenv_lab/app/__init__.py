"""The panel as a page of its own: Panel and Bokeh over the view model."""

from daskenv_lab.app.page import page
from daskenv_lab.app.serve import serve

__all__ = ["page", "serve"]
