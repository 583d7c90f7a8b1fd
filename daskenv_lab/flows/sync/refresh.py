"""Bringing the kernel's modules up to their files, so that both ends run what is on disk."""

from __future__ import annotations

import contextlib
import copy
import importlib.machinery
import importlib.util
import itertools
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from daskenv_lab import sources
from daskenv_lab.errors import CodeError
from daskenv_lab.flows.sync.imports import codes_of, compiled, needed_by
from daskenv_lab.flows.sync.older import bind_anew, change_in_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class _Load(NamedTuple):
    spec: Any
    """A module that somebody else loads again gets another."""
    number: int
    again: bool = False
    """Whether it was loaded again here, so that those that imported it before are behind."""


_loads: dict[str, _Load] = {}
"""In which order modules were loaded, as far as any was loaded again."""

_numbers = itertools.count()
_broken: set[str] = set()
"""Modules that could not be loaded again; Python may have compiled their files since."""

_reloading = threading.Lock()


def refresh(reached: Mapping[str, Path], space: dict[str, Any] | None = None) -> list[str]:
    """Load again, in place, the modules whose files have changed since they were loaded.

    So are those that import one that was loaded again. Functions, classes, tasks and flows that a
    notebook got by ``from module import name`` are changed in place, as by IPython's autoreload,
    and the names of functions and classes are bound to the new ones; plain values stay.

    Parameters
    ----------
    reached : mapping of str to Path
        The modules in question, each after those that it imports.
    space : dict, optional
        A namespace whose names are bound anew too.

    Returns
    -------
    list of str
        The names of those that were loaded again.

    Raises
    ------
    CodeError
        A module cannot be loaded any more; the kernel keeps what it had.
    """
    with _reloading:
        again: dict[str, types.ModuleType] = {}
        # The second time is for modules that import each other.
        for first in (True, False):
            for name, module, file in _loaded(reached):
                if (first and _is_stale(module, file)) or _is_behind(module, file, reached):
                    if not again:
                        _number_all()
                    _load_again(module, file)
                    again[name] = module
            if not again:
                break
        number = next(_numbers)
        _loads.update({n: _Load(m.__spec__, number, again=True) for n, m in again.items()})
        spaces = [vars(module) for _, module, _ in _loaded(reached)]
        # Names are left from the last time too, if a module failed then.
        bind_anew([*spaces, vars(sys.modules["__main__"]), {} if space is None else space])
    return list(again)


def without_cache(file: Path) -> None:
    """Delete what Python compiled of a file.

    Python takes it for the file's own if its second and size are the same.
    """
    with contextlib.suppress(OSError, NotImplementedError):
        Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)


def _loaded(reached: Mapping[str, Path]) -> Iterable[tuple[str, types.ModuleType, Path]]:
    for name, file in reached.items():
        module = sys.modules.get(name)
        if module is not None and file.suffix == ".py":
            yield name, module, file


def _number_all() -> None:
    """Note that what is loaded now was loaded before what will be."""
    number = next(_numbers)
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if name not in _loads or _loads[name].spec is not spec:
            _loads[name] = _Load(spec, number)


def _is_behind(module: types.ModuleType, file: Path, reached: Mapping[str, Path]) -> bool:
    """Tell whether something that a module imports was loaded again after the module was."""
    own = _loads.get(module.__name__)
    if own is None or own.spec is not module.__spec__:
        return False
    needed = needed_by(module.__name__, file, reached)
    others = [_loads[name] for name in needed if name in _loads]
    return any(other.again and other.number > own.number for other in others)


def _is_stale(module: types.ModuleType, file: Path) -> bool:
    """Tell whether a module was loaded from another content than its file has."""
    before = getattr(module, "__file__", None)
    if not isinstance(before, str) or module.__spec__ is None:
        return False
    if not Path(before).exists():
        return True  # A module became a package, or a package one.
    if not file.samefile(before):
        return False
    if module.__name__ in _broken:
        return True
    noted = sources.loaded_from(module)
    if noted is not None:
        return noted != sources.digest(file)
    if _differs(module, file):
        return True
    sources.note(module)
    return False


def _differs(module: types.ModuleType, file: Path) -> bool:
    """Tell whether a module is another than what its file holds, where nobody noted it."""
    loader = module.__loader__
    if not isinstance(loader, importlib.machinery.SourceFileLoader):
        return False  # Others, such as pytest's, change the code that they load.
    now = compiled(file)
    if not _loads_as_it_is(loader, file, now):
        return False
    if (then := _compiled_before(module)) is not None and then != now:
        return True
    # Another process can have compiled the file since.
    wanted: dict[str, list[types.CodeType]] = {}
    waiting = [now]
    while waiting:
        code = waiting.pop()
        wanted.setdefault(code.co_qualname, []).append(code)
        waiting += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return any(
        code.co_filename == module.__file__ and code not in wanted.get(code.co_qualname, [])
        for value in list(vars(module).values())
        for code in codes_of(value)
    )


def _loads_as_it_is(
    loader: importlib.machinery.SourceFileLoader, file: Path, code: types.CodeType
) -> bool:
    """Tell whether a loader runs what Python makes of a file."""
    if type(loader) is importlib.machinery.SourceFileLoader:
        return True
    # That of beartype, which comes with Prefect's server, loads all modules and changes a few.
    with contextlib.suppress(Exception):  # it is anybody's code
        return loader.source_to_code(file.read_bytes(), str(file)) == code
    return False


def _compiled_before(module: types.ModuleType) -> types.CodeType | None:
    """Read what Python compiled of a module's file when it was loaded, if it kept that."""
    cached = getattr(module, "__cached__", None)
    if sys.dont_write_bytecode or not isinstance(cached, str):
        return None
    loader = importlib.machinery.SourcelessFileLoader(module.__name__, cached)
    with contextlib.suppress(ImportError, OSError, EOFError):
        return loader.get_code(module.__name__)
    return None


def _load_again(module: types.ModuleType, file: Path) -> None:
    spec = _spec_for(module, file)
    if spec is None or spec.loader is None:
        return
    compiled(file)
    without_cache(file)
    name, before = module.__name__, dict(vars(module))
    try:
        _run_again(module, spec)
    except Exception as error:
        _broken.add(name)
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == spec.origin
        ]
        at = f", line {lines[-1]}" if lines else ""
        raise CodeError(
            f"{file}{at} cannot be loaded again ({type(error).__name__}: {error}); mend it, "
            "nothing has been started"
        ) from error
    _broken.discard(name)
    _give_modules(module)
    change_in_place(module, before)
    _loads[name] = _Load(module.__spec__, next(_numbers), again=True)
    sources.note(module)


def _spec_for(module: types.ModuleType, file: Path) -> Any:
    if Path(str(module.__file__)).exists():
        return copy.copy(module.__spec__)
    inside = [str(file.parent)] if file.name == "__init__.py" else None
    return importlib.util.spec_from_file_location(
        module.__name__, file, submodule_search_locations=inside
    )


def _run_again(module: types.ModuleType, spec: Any) -> None:
    """Run a module in its own namespace, from which all else is taken."""
    space, before = vars(module), dict(vars(module))
    frame = vars(importlib.util.module_from_spec(spec))
    space.clear()
    space.update(frame)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        space.clear()
        space.update(before)
        raise


def _give_modules(package: types.ModuleType) -> None:
    """Give a package the modules in it that are loaded, as when they were imported."""
    for name, module in list(sys.modules.items()):
        above, _, last = name.rpartition(".")
        if above == package.__name__ and module is not None:
            vars(package).setdefault(last, module)
