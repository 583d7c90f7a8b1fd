"""Export: what a session has tuned, written down as code for production.

It imports values only, so that exporting needs neither a cluster nor a cloud's SDK.
"""

from daskenv_lab.export.module import python_module
from daskenv_lab.export.write import write_environment

__all__ = ["python_module", "write_environment"]
