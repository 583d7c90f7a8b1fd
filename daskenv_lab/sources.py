"""The user's own source files: which modules are local, and what each was loaded from.

Python does not keep what a module was loaded from, so it is noted: a notebook does so after each
cell, and each flow run before it ships code.
"""

from __future__ import annotations

import functools
import hashlib
import site
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

_OWN = __name__.partition(".")[0]

_SETTLED = 2.0
"""Seconds after which a file's time tells reliably whether it was written again."""


class _Loaded(NamedTuple):
    spec: Any
    """A module that is loaded again gets another."""
    digest: str


_loaded: dict[str, _Loaded] = {}
_digests: dict[str, tuple[tuple[int, ...], str]] = {}
_passed: dict[str, Any] = {}
"""The spec with which each module was last looked at, so that the next look is quick."""


def digest(path: Path) -> str:
    """Tell a file's content in short; a file that has not changed is not read again.

    Raises
    ------
    OSError
        It cannot be read.

    Examples
    --------
    >>> len(digest(Path(__file__)))  # doctest: +SKIP
    32
    """
    told = path.stat()
    mark = (told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)
    known = _digests.get(str(path))
    if known is not None and known[0] == mark:
        return known[1]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    # Within a clock's tick a file can change twice and keep its time.
    if abs(time.time() - max(told.st_mtime, told.st_ctime)) > _SETTLED:
        _digests[str(path)] = (mark, found)
    return found


def is_local(module: ModuleType) -> bool:
    """Tell whether a module is the user's own: a file outside the folders of installed packages."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and is_own(module.__name__) and not installed(Path(file))


def is_own(name: str) -> bool:
    """Tell whether a module of that name could be the user's own."""
    return name.partition(".")[0] not in (_OWN, "__main__", "__mp_main__")


def installed(path: Path) -> bool:
    """Tell whether a file belongs to Python or to an installed package."""
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    where = path.resolve()
    return any(where.is_relative_to(folder) for folder in _installed_folders())


def note_loaded(*, first: bool = False) -> None:
    """Note what the local modules were loaded from that were loaded since the last call.

    The first call only takes them in: their files may have changed since.

    Examples
    --------
    >>> note_loaded()
    """
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is None or _passed.get(name) is spec:
            continue
        _passed[name] = spec
        if not first and is_local(module):
            note(module)


def note(module: ModuleType) -> None:
    """Note that a module was loaded from its file as that is now."""
    try:
        found = digest(Path(str(module.__file__)))
    except OSError:
        return  # It was deleted since; whoever ships the module says so.
    _loaded[module.__name__] = _Loaded(module.__spec__, found)


def loaded_from(module: ModuleType) -> str | None:
    """Give the digest of what a module was loaded from, or None where nobody noted it."""
    known = _loaded.get(module.__name__)
    return known.digest if known is not None and known.spec is module.__spec__ else None


@functools.cache
def _installed_folders() -> frozenset[Path]:
    paths = sysconfig.get_paths()
    folders = [paths[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return frozenset(Path(folder).resolve() for folder in folders)
