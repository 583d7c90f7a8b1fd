"""Bringing the kernel's modules up to their files, so that both ends run what is on disk."""

from __future__ import annotations

import contextlib
import copy
import importlib.machinery
import importlib.util
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import Flow, Task

from daskenv_lab import sources
from daskenv_lab.errors import CodeError
from daskenv_lab.flows.sync.imports import compiled

if TYPE_CHECKING:
    from collections.abc import Mapping

_old_objects: dict[Any, Any] = {}
"""What IPython's reloading keeps between two times, to change old functions in place."""

_reloading = threading.Lock()


def refresh(reached: Mapping[str, Path]) -> list[str]:
    """Load again, in place, the modules whose files have changed since they were loaded.

    Functions, classes, tasks and flows that a notebook got by ``from module import name`` are
    changed in place, as by IPython's autoreload; plain values are not.

    Parameters
    ----------
    reached : mapping of str to Path
        The modules in question, each after those that it imports.

    Returns
    -------
    list of str
        The names of those that were loaded again.

    Raises
    ------
    CodeError
        A module cannot be loaded any more; the kernel keeps what it had.
    """
    again = []
    with _reloading:
        for name, file in reached.items():
            module = sys.modules.get(name)
            if module is not None and file.suffix == ".py" and _is_stale(module, file):
                _load_again(module, file)
                again.append(name)
    return again


def without_cache(file: Path) -> None:
    """Delete what Python compiled of a file.

    Python takes it for the file's own if its second and size are the same.
    """
    with contextlib.suppress(OSError, NotImplementedError):
        Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)


def _is_stale(module: types.ModuleType, file: Path) -> bool:
    if getattr(module, "__file__", None) != str(file) or module.__spec__ is None:
        return False
    before = sources.loaded_from(module)
    if before is not None:
        return before != sources.digest(file)
    if _differs(module, file):
        return True
    sources.note(module)
    return False


def _differs(module: types.ModuleType, file: Path) -> bool:
    """Tell whether a module's functions are others than those in its file."""
    if type(module.__loader__) is not importlib.machinery.SourceFileLoader:
        return False  # Others, such as pytest's, change the code that they load.
    wanted: dict[str, list[types.CodeType]] = {}
    waiting = [compiled(file)]
    while waiting:
        code = waiting.pop()
        wanted.setdefault(code.co_qualname, []).append(code)
        waiting += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    for value in list(vars(module).values()):
        own = getattr(getattr(value, "fn", value), "__code__", None)
        if (
            isinstance(own, types.CodeType)
            and own.co_filename == str(file)
            and own not in wanted.get(own.co_qualname, [])
        ):
            return True
    return False


def _load_again(module: types.ModuleType, file: Path) -> None:
    from IPython.extensions.autoreload import superreload

    before = dict(vars(module))
    spec = copy.copy(module.__spec__)
    loader = spec.loader if spec is not None else None
    if loader is None:
        return
    frame = ("__file__", "__path__", "__package__", "__cached__", "__builtins__")
    kept = {name: before[name] for name in frame if name in before}

    def execute(module: types.ModuleType) -> types.ModuleType:
        vars(module).update(kept, __spec__=spec)
        loader.exec_module(module)
        return module

    compiled(file)
    without_cache(file)
    try:
        superreload(module, execute, _old_objects)
    except Exception as error:
        vars(module).update(before)
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)
        ]
        at = f", line {lines[-1]}" if lines else ""
        raise CodeError(
            f"{file}{at} cannot be loaded again ({type(error).__name__}: {error}); mend it, "
            "nothing has been started"
        ) from error
    for name, old in before.items():
        new = vars(module).get(name)
        if new is not old and isinstance(old, Task | Flow) and type(new) is type(old):
            # Whoever imported it by its name has this object.
            vars(old).clear()
            vars(old).update(vars(new))
            vars(module)[name] = old
    sources.note(module)
