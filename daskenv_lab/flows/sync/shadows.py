"""Names that a module of the user's own must not have, because workers would break."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.metadata
import re
import site
import sys
import sysconfig
from typing import TYPE_CHECKING

from daskenv_lab.errors import CodeError

if TYPE_CHECKING:
    from pathlib import Path

_MACHINERY = ("distributed", "prefect", "cloudpickle", "click")
"""What every worker stands on, with all that these need."""


def refuse_shadow(name: str, path: Path) -> None:
    """Refuse a module that has the name of one of Python's, or of one that Dask or Prefect needs.

    Raises
    ------
    CodeError
        It has.

    Examples
    --------
    >>> from pathlib import Path
    >>> refuse_shadow("my_helpers", Path("my_helpers.py"))
    """
    if (whose := shadowed(name)) is not None:
        raise CodeError(
            f"{path} has the name of {whose}, which the workers themselves need; rename it"
        )


def shadowed(name: str) -> str | None:
    """Say whose name a module has, if it is one that workers need."""
    if name in sys.stdlib_module_names:
        return "a module of Python itself"
    # The first look is quick, and leaves most names out of the second.
    if not _installed(name) or name not in _needed():
        return None
    return f"the installed package {name!r}"


def _installed(name: str) -> bool:
    paths = sysconfig.get_paths()
    folders = {paths["purelib"], paths["platlib"], *site.getsitepackages()}
    return importlib.machinery.PathFinder.find_spec(name, sorted(folders)) is not None


@functools.cache
def _needed() -> frozenset[str]:
    """Name the modules of the packages that Dask and Prefect need."""
    wanted, seen = list(_MACHINERY), set[str]()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        wanted += [_plain(r) for r in requires if "extra ==" not in r]
    return frozenset(
        module
        for module, packages in importlib.metadata.packages_distributions().items()
        if seen & {_plain(p) for p in packages}
    )


def _plain(requirement: str) -> str:
    matched = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", matched.group()).lower() if matched else ""
