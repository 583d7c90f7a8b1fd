"""Which installed modules flows need: those that they, their tasks and local modules import.

Nothing is imported for it; what is imported only for type checkers, or may be absent (in ``try``
with ``except ImportError``), does not count.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import inspect
import sys
import textwrap
import threading
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from daskenv_lab.packages.here import is_installed
from daskenv_lab.packages.there import root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FORGIVING = {"ImportError", "ModuleNotFoundError"}


def installed_imports(functions: Iterable[Any]) -> frozenset[str]:
    """Name the installed packages and modules that functions need, the outermost of each.

    Parameters
    ----------
    functions : iterable
        Flows, tasks or functions. Of those in a file all that the file imports counts; of a
        notebook's only what they use.

    Examples
    --------
    >>> import yaml
    >>> installed_imports([yaml.safe_load])
    frozenset({'yaml'})
    """
    return frozenset(_Search(functions).found)


def imported_by(source: str, package: str = "") -> Iterator[str]:
    r"""Name what some source code imports, with the names taken from modules as if submodules.

    Parameters
    ----------
    source : str
        Python code; one that cannot be parsed imports nothing.
    package : str
        The package in which relative imports are.

    Examples
    --------
    >>> list(imported_by("import a.b\nfrom c import d\nfrom . import e", "p"))
    ['a.b', 'c.d', 'p.e']
    """
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        yield from _imports(_parsed(textwrap.dedent(source)), package)


_parsing = threading.Lock()


def _parsed(source: str) -> ast.Module:
    # Python 3.11 raises SystemError now and then where two threads parse at once (gh-106905).
    with _parsing:
        return ast.parse(source)


class _Search:
    """Goes from function to function and from local module to local module."""

    def __init__(self, functions: Iterable[Any]) -> None:
        self.found: set[str] = set()
        self._seen: set[str | FunctionType | type] = set()
        self._read: set[Path] = set()
        for function in functions:
            self._value(function)

    def _value(self, value: Any) -> None:
        """Follow a module, a function, a class, what was made of one, or whatever has a class."""
        if isinstance(value, ModuleType):
            self._module(value.__name__)
            return
        inner = getattr(value, "fn", value) if callable(value) else value
        named = getattr(inner, "__module__", None) or type(inner).__module__
        module = named if isinstance(named, str) else ""
        own = _is_a_notebooks(module)
        for wrapped in _wrapped_in(inner, own=own):
            self._value(wrapped)
        if own and isinstance(inner, FunctionType):
            self._function(inner)
        elif own:
            self._class(inner if isinstance(inner, type) else type(inner))
        if not own or not isinstance(inner, FunctionType):
            self._module(module)

    def _class(self, cls: type) -> None:
        """Follow what a notebook's class is made of, and the classes that it stands on."""
        if cls in self._seen or not _is_a_notebooks(cls.__module__):
            return
        self._seen.add(cls)
        for part in (*cls.__bases__, *vars(cls).values()):
            self._value(part)

    def _function(self, function: FunctionType) -> None:
        """Follow what a notebook's function imports and uses."""
        if function in self._seen:
            return
        self._seen.add(function)
        with contextlib.suppress(OSError, TypeError):
            for name in imported_by(inspect.getsource(function)):
                self._module(name)
        for name in _names(function.__code__) & {*function.__globals__}:
            self._value(function.__globals__[name])
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # a cell that is empty still
                self._value(cell.cell_contents)

    def _module(self, dotted: str) -> None:
        """Note an installed module; read a local one."""
        first = dotted.partition(".")[0]
        if dotted in self._seen or first in sys.stdlib_module_names or first == "daskenv_lab":
            return
        self._seen.add(dotted)
        outermost = root(dotted)
        if outermost is None:
            return
        name, spec = outermost
        if spec is None or not (spec.origin or spec.submodule_search_locations):
            return
        if is_installed(name, spec):
            self.found.add(name)
            return
        for module, file in _files(dotted, name, spec.origin):
            if file not in self._read:
                self._read.add(file)
                self._file(module, file)

    def _file(self, module: str, file: Path) -> None:
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        with contextlib.suppress(OSError, UnicodeDecodeError):
            for name in imported_by(file.read_text(encoding="utf-8"), package):
                self._module(name)


def _files(dotted: str, name: str, origin: str | None) -> Iterator[tuple[str, Path]]:
    """Give the files of a local module, from its outermost package inwards."""
    if origin is None or not origin.endswith(".py"):
        return
    file = Path(origin)
    yield name, file
    inside = dotted.removeprefix(name).strip(".").split(".") if file.name == "__init__.py" else []
    folder = file.parent
    for part in filter(None, inside):
        name = f"{name}.{part}"
        plain, package = folder / f"{part}.py", folder / part / "__init__.py"
        if plain.is_file():
            yield name, plain
        elif package.is_file():
            yield name, package
        folder = folder / part


def _is_a_notebooks(module: str) -> bool:
    """Tell whether a module has no file that other processes can import too."""
    if module == "__main__":
        return True
    is_pythons = module.partition(".")[0] in sys.stdlib_module_names
    return not is_pythons and getattr(sys.modules.get(module), "__file__", None) is None


def _wrapped_in(value: Any, *, own: bool) -> Iterator[Any]:
    """Give what was made a property or a partial function of, and what a notebook decorated."""
    if isinstance(value, property):
        yield from filter(None, (value.fget, value.fset, value.fdel))
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, functools.cached_property):
        yield value.func
    elif isinstance(value, MethodType):
        yield from (value.__func__, value.__self__)
    elif own and hasattr(value, "__wrapped__"):
        with contextlib.suppress(ValueError):  # a wrapper of itself
            yield inspect.unwrap(value)


def _names(code: CodeType) -> set[str]:
    """Give the global names that a function and those inside it use."""
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return {*code.co_names}.union(*(_names(c) for c in inner))


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = "." * level + (module or "")
            # One that leads out of its package is a mistake, which Python tells when it runs.
            with contextlib.suppress(ImportError):
                base = importlib.util.resolve_name(base, package)
                yield from (f"{base}.{alias.name}".rstrip(".*") for alias in names)
        case ast.If(test=test) if "TYPE_CHECKING" in ast.dump(test):
            yield from (name for child in node.orelse for name in _imports(child, package))
        case ast.Try(handlers=handlers) if any(_forgives(h) for h in handlers):
            return
        case _:
            yield from (
                name for child in ast.iter_child_nodes(node) for name in _imports(child, package)
            )


def _forgives(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler lets an import fail."""
    caught = ast.walk(handler.type) if handler.type else ()
    return any(isinstance(n, ast.Name) and n.id in _FORGIVING for n in caught)
