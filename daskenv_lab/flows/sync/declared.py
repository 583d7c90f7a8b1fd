"""What was declared with ``sync``: paths that travel with all flows run from one folder."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from daskenv_lab import config
from daskenv_lab.background import read_record, write_record
from daskenv_lab.errors import CodeError, did_you_mean
from daskenv_lab.flows.sync.files import is_secret, modules_in, tree_of
from daskenv_lab.flows.sync.find import declared_root

if TYPE_CHECKING:
    from daskenv_lab.flows.sync.files import Root

_LOCK = 10.0


def declared() -> tuple[Path, ...]:
    """List the paths that were declared in this folder, the first one first.

    Examples
    --------
    >>> declared()  # doctest: +SKIP
    (PosixPath('/home/ada/flows/helpers.py'),)
    """
    return tuple(Path(p) for p in read_record(_file()).get("paths", ()))


def root_of(path: Path) -> Root:
    """Say where something that was declared is put on a worker.

    Raises
    ------
    CodeError
        It is gone, or no module, package or folder any more.
    """
    if not path.exists():
        raise CodeError(
            f"{path}, which was declared with `daskenv sync`, is gone; put it back, or type "
            f"`daskenv sync --remove {shlex.quote(str(path))}`"
        )
    return declared_root(path)


def declare(path: str | Path) -> Path:
    """Let a module, package or folder of modules travel with the flows run from this folder.

    Raises
    ------
    CodeError
        Nothing is there, or it must not travel.
    """
    given = Path(path).expanduser()
    if is_secret(given):
        raise CodeError(
            f"{str(given)!r} looks like a secret, which is never shipped; let tasks read it from a "
            "Prefect block or a process variable"
        )
    # The link itself is kept where it stands; its name is the module's.
    root = declared_root(Path.cwd() / given)
    # What cannot travel would stop each run from now on.
    modules_in(tree_of([root]))
    _change(add=root.path)
    return root.path


def withdraw(path: str | Path) -> Path:
    """Take back what was declared.

    Raises
    ------
    CodeError
        It was not declared; the nearest is named.
    """
    given = Path.cwd() / Path(path).expanduser()
    known = declared()
    if given not in known:
        near = did_you_mean(str(given), [str(p) for p in known])
        raise CodeError(f"{str(path)!r} was not declared with `daskenv sync`; {near}")
    _change(remove=given)
    return given


def _change(*, add: Path | None = None, remove: Path | None = None) -> None:
    file = _file()
    file.parent.mkdir(mode=0o700, exist_ok=True)
    with filelock.FileLock(file.with_suffix(".lock"), mode=0o600, timeout=_LOCK):
        kept = [str(p) for p in declared() if p not in (add, remove)]
        paths = [*kept, *([str(add)] if add else [])]
        write_record(file, {"schema": 1, "folder": str(Path.cwd()), "paths": paths})


def _file() -> Path:
    name = hashlib.blake2b(bytes(Path.cwd()), digest_size=12).hexdigest()
    return config.state_dir() / "sync" / f"{name}.json"
