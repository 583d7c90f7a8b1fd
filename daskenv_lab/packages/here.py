"""What is installed here: which distribution brings a module, what it needs, whether it is pure."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.machinery import ModuleSpec
    from importlib.metadata import Distribution

_BASE = ("cloudpickle", "dask", "distributed", "prefect")
_FOLDERS = ("dist-packages", "site-packages")

_brought_by: dict[str, str] = {}
"""The distributions that were found, by module: a look at all of them takes a third of a second."""


def is_installed(name: str, spec: ModuleSpec) -> bool:
    """Tell whether a module lies in a folder of installed packages, and not beside a notebook.

    Parameters
    ----------
    name : str
        The outermost package or module that is one, as ``there.root`` gives it.
    spec : ModuleSpec
        Where it is.
    """
    places = list(spec.submodule_search_locations or ())
    origin = spec.origin if spec.origin and Path(spec.origin).is_file() else None
    if origin is None and not places:
        return False
    start = Path(places[0] if places else str(origin))
    folder = start.parents[name.count(".")]
    return folder.name in _FOLDERS or next(folder.glob("*.dist-info"), None) is not None


def brought_by(modules: Iterable[str]) -> dict[str, str]:
    """Name the installed distribution that holds each module's file, where there is one.

    Examples
    --------
    >>> brought_by(["yaml"])
    {'yaml': 'pyyaml'}
    """
    modules = list(modules)
    for module in modules:
        found = _found(module) if module not in _brought_by else None
        if found is not None and _holds(found, module):
            _brought_by[module] = canonicalize_name(found.metadata["Name"])
    left = {m for m in modules if m not in _brought_by}
    for distribution in importlib.metadata.distributions() if left else ():
        for module in [m for m in left if _holds(distribution, m)]:
            _brought_by[module] = canonicalize_name(distribution.metadata["Name"])
            left.discard(module)
    return {m: _brought_by[m] for m in modules if m in _brought_by}


def why_not_pure(distribution: str) -> str | None:
    """Say why an installed distribution cannot be had as one wheel for every platform."""
    found = _found(distribution)
    if found is None:
        return "it is not installed here"
    if why := why_not_on_an_index(distribution):
        return why
    tags = re.findall(r"^Tag: (\S+)", found.read_text("WHEEL") or "", re.MULTILINE)
    if not tags:
        return "it was not installed here from a wheel"
    if not all(tag.endswith("-none-any") for tag in tags):
        return "it is not pure Python"
    return None


def why_not_on_an_index(distribution: str) -> str | None:
    """Say why the version of an installed distribution may name nothing that an index has."""
    found = _found(distribution)
    if found is not None and json.loads(found.read_text("direct_url.json") or "{}"):
        return "it was installed here from a folder, a file or a repository"
    return None


def needed_everywhere() -> tuple[str, ...]:
    """Name the distributions that each worker needs, whatever a flow imports."""
    return _BASE


def required_by(distribution: str) -> dict[str, Requirement]:
    """Give what an installed distribution requires on this platform, without its extras."""
    found = _found(distribution)
    told = [Requirement(line) for line in (found.requires or () if found else ())]
    wanted = [r for r in told if r.marker is None or r.marker.evaluate({"extra": ""})]
    return {canonicalize_name(r.name): r for r in wanted}


@functools.cache
def needed_by_dask_and_prefect() -> frozenset[str]:
    """Name what Dask and Prefect need themselves, and their own needs in turn."""
    return frozenset(_closure(_BASE))


def _closure(names: Iterable[str]) -> Iterator[str]:
    waiting, seen = [canonicalize_name(n) for n in names], set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(canonicalize_name(n) for n in required_by(name))
            yield name


def _found(distribution: str) -> Distribution | None:
    try:
        return importlib.metadata.distribution(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def _holds(distribution: Distribution, module: str) -> bool:
    """Tell whether a distribution's record lists a module's file."""
    path = re.escape(module.replace(".", "/"))
    listed = distribution.read_text("RECORD") or ""
    return re.search(rf"^{path}(?:/__init__)?\.", listed, re.MULTILINE) is not None
