"""What tells which packages an interpreter holds; it runs here, on schedulers and on workers.

The module is pickled by value, for images that hold distributed and not this package.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec

INSTALLED = "daskenv_packages"
"""The attribute of a worker that tells what was installed on it while it ran."""


def held(
    distributions: Iterable[str], modules: Iterable[str], dask_worker: Any = None
) -> dict[str, Any]:
    """Tell versions, the modules that cannot be imported, and what was installed, in plain types.

    Nothing is imported for it. Only workers of this process's Python may be asked: byte code of
    another minor version can end a process.
    """
    added = getattr(dask_worker, INSTALLED, {}).values()
    return {
        "versions": {name: version(name) for name in distributions},
        "absent": [module for module in modules if root(module) is None],
        "installed": {k: v for one in added for k, v in one["installed"].items()},
        "failures": [one["failure"] for one in added if one["failure"]],
    }


def version(distribution: str) -> str | None:
    """Give the version that is installed, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def root(dotted: str) -> tuple[str, ModuleSpec | None] | None:
    """Find the outermost part of a module's name that is no mere folder shared by packages.

    ``google.cloud.storage.Client`` is found in ``google.cloud.storage``, ``pandas.DataFrame`` in
    ``pandas``. None means that there is no such module.
    """
    first, *rest = dotted.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        # A module that was made by hand has no specification, and is there.
        return (first, None) if first in sys.modules else None
    name = first
    for part in rest:
        if spec is None or (spec.loader is not None and spec.origin is not None):
            break
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    return None if spec is None else (name, spec)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
