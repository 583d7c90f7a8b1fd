"""Export: what a session has tuned, written down for production, and read again.

It imports values only, so that exporting needs neither a cluster nor a cloud's SDK.
"""

from daskenv_lab.export.loading import load
from daskenv_lab.export.module import python_module
from daskenv_lab.export.request import DEFAULT_NAMES, BoundFlow, Image, Request
from daskenv_lab.export.source import Source, source_of
from daskenv_lab.export.texts import VARIABLE, one_line
from daskenv_lab.export.write import write_environment

__all__ = [
    "DEFAULT_NAMES",
    "VARIABLE",
    "BoundFlow",
    "Image",
    "Request",
    "Source",
    "load",
    "one_line",
    "python_module",
    "source_of",
    "write_environment",
]
