"""Under which names schedulers and workers keep what is ours.

A cluster outlives kernels, and so may have served another version of this package, or serve it
still: what that version keeps has another shape. Only the user's modules are in one place for all
versions, since a process has one ``sys.modules`` (`daskenv_lab.flows.sync.onworker.store_here`).

The module is pickled by value, with those that use it.
"""

from __future__ import annotations

import sys

import cloudpickle

from daskenv_lab import __version__


def versioned(name: str) -> str:
    """Make a name of this version's own.

    Examples
    --------
    >>> versioned("daskenv_rooms").startswith("daskenv_rooms-")
    True
    """
    return f"{name}-{__version__}"


cloudpickle.register_pickle_by_value(sys.modules[__name__])
