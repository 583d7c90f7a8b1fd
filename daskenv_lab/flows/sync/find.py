"""Which of the user's own modules a flow uses: loaded or not yet, anywhere in its code."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import inspect
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskenv_lab import sources
from daskenv_lab.errors import CodeError
from daskenv_lab.flows.sync.files import Root
from daskenv_lab.flows.sync.imports import codes_of, imports_in, imports_of
from daskenv_lab.flows.sync.shadows import refuse_shadow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prefect import Flow

_SUFFIXES = (*importlib.machinery.EXTENSION_SUFFIXES, ".py")

_LOOKED_AT = 1000
"""Of a longer list, what comes first; the rest is of the same kinds."""


@dataclass(slots=True)
class Found:
    """The user's own modules that a flow uses."""

    roots: dict[str, list[Root]] = field(default_factory=dict)
    """What is to be shipped, by the first part of a module's name."""

    reached: dict[str, Path] = field(default_factory=dict)
    """The files of the modules that are imported, each after those that it imports."""

    by_value: set[str] = field(default_factory=set)
    """Loaded modules that travel inside the flow, as no worker can import them."""

    gone: dict[str, Path] = field(default_factory=dict)
    """Loaded modules whose files are there no more."""

    space: dict[str, Any] = field(default_factory=dict)
    """The namespace around the flow, such as the notebook's."""


def find(flow: Flow[..., Any] | None, declared: Iterable[Root] = ()) -> Found:
    """Find the user's own modules that a flow uses, and add what was declared.

    They are read from the imports in the flow's code, in the notebook's functions around it, and
    in the modules themselves, those inside functions included. Nothing is imported.

    Raises
    ------
    CodeError
        A module is no Python, or has a name that would break the workers.
    """
    search = _Search(declared)
    if flow is not None:
        search.of_flow(flow)
    search.of_declared()
    search.of_loaded()
    return search.found


def find_in(file: Path) -> Found:
    """Find the user's own modules that a file imports.

    Raises
    ------
    CodeError
        As for `find`.
    """
    search = _Search(())
    search.of_file(file)
    search.of_loaded()
    return search.found


class _Search:
    def __init__(self, declared: Iterable[Root]) -> None:
        self.found = Found()
        self._seen: set[str] = set()
        self._folders: list[str] = []
        self._declared: list[Root] = list(declared)
        for root in self._declared:
            folder = root.path if not root.place else root.path.parent
            self._folders.append(str(folder))

    def of_flow(self, flow: Flow[..., Any]) -> None:
        """Follow the imports of a flow and of what its function sees."""
        function = inspect.unwrap(flow.fn)
        space = getattr(function, "__globals__", {})
        home = function.__module__ if isinstance(function.__module__, str) else "__main__"
        package = str(space.get("__package__") or "")
        module = sys.modules.get(home)
        self.found.space = space
        self._seen.add(home)
        file = None
        if module is not None and sources.is_local(module):
            self.found.by_value.add(home)
            file = Path(str(module.__file__))
            # Relative to it stands what a script imports.
            self._folders.append(str(file.parents[home.count(".")]))
            if not file.is_file():
                self.found.gone[home] = file
        self._follow(imports_in(function.__code__), package)
        self._of_space(space, home, package)
        if file is not None and file.suffix == ".py" and file.is_file():
            self._follow(imports_of(file), package)
            self.found.reached[home] = file

    def _of_space(self, space: dict[str, Any], home: str, package: str) -> None:
        """Follow what a namespace defines, and what it refers to."""
        for value in list(space.values()):
            if getattr(value, "__module__", None) == home:
                for code in codes_of(value):
                    self._follow(imports_in(code), package)
        for name in _modules_in(space):
            self._reach(name)

    def of_declared(self) -> None:
        """Follow the imports of the modules and packages that were declared by name."""
        for root in self._declared:
            name = root.place.partition(".")[0]
            if name and (root.path.is_dir() or root.path.suffix == ".py"):
                self._reach(name)
            elif not name:
                self._of_folder(root.path)

    def _of_folder(self, folder: Path) -> None:
        """Take in the loaded modules that lie in a folder of modules."""
        for name in dict.fromkeys(path.name.partition(".")[0] for path in folder.iterdir()):
            loaded = sys.modules.get(name)
            places = [getattr(loaded, "__file__", None), *getattr(loaded, "__path__", ())]
            if any(Path(p).resolve().is_relative_to(folder.resolve()) for p in places if p):
                self._reach(name)

    def of_loaded(self) -> None:
        """Take in what else is loaded of the packages that were found.

        A cell's ``import package.module`` can be for a flow that only says ``package.module.f()``.
        """
        before = 0
        while before < len(self._seen):
            before = len(self._seen)
            for name, module in list(sys.modules.items()):
                top, dot, _ = name.partition(".")
                whose = dot and (self.found.roots.get(top) or top in self.found.gone)
                if whose and getattr(module, "__name__", None) == name:
                    self._reach(name)

    def of_file(self, file: Path) -> None:
        """Follow the imports of a file."""
        self._folders.append(str(file.parent))
        self._follow(imports_of(file), "")

    def _follow(self, imports: Iterable[Any], package: str) -> None:
        for one in imports:
            for target in one.targets(package):
                self._reach(target)

    def _reach(self, name: str) -> None:
        """Take in a module, those above it, and those that it imports."""
        if name in self._seen or not sources.is_own(name):
            return
        self._seen.add(name)
        above, _, last = name.rpartition(".")
        if above:
            self._reach(above)
            file = self._below(above, last)
        else:
            file = self._top(name)
        if file is None:
            return
        package = name if file.name == "__init__.py" else above
        if file.suffix == ".py":
            imports = imports_of(file)
            self._follow(imports, package)
            # Workers need not have this package, so that a module that imports it stays here.
            if name in sys.modules and not all(
                sources.is_own(one.name) or one.level for one in imports
            ):
                self.found.by_value.add(name)
        self.found.reached[name] = file

    def _top(self, name: str) -> Path | None:
        """Find a module without dots; what it belongs to is shipped if it is the user's own."""
        loaded = sys.modules.get(name)
        spec = self._spec(name, loaded)
        if spec is None:
            return None
        if spec.submodule_search_locations is not None:
            return self._package(name, spec)
        if spec.origin is None or not spec.has_location or sources.installed(Path(spec.origin)):
            return None
        file = Path(spec.origin)
        if not file.is_file():
            self._gone(name, file)
            return None
        if file.stem.partition(".")[0] != name:
            self.found.by_value.add(name)
            return None  # It was loaded under another name, by which nobody can import it.
        refuse_shadow(name, file)
        self.found.roots[name] = [Root(file, file.name)]
        return file

    def _package(self, name: str, spec: Any) -> Path | None:
        own = [Path(p) for p in spec.submodule_search_locations]
        own = [p for p in own if not sources.installed(p)]
        places = [p for p in own if p.is_dir()]
        plain = spec.origin is None
        if places:
            refuse_shadow(name, places[0])
        elif own and not any(above.is_file() for above in own[0].parents):
            self._gone(name, own[0])  # It does not lie in an archive, which is not followed.
        self.found.roots[name] = [Root(p, name, bare=plain) for p in places]
        file = places[0] / "__init__.py" if places and not plain else None
        return file if file and file.is_file() else None

    def _gone(self, name: str, place: Path) -> None:
        """Let a module travel as it is loaded, and follow what it refers to."""
        loaded = sys.modules.get(name)
        if loaded is None:
            return
        self.found.gone[name] = place
        self.found.by_value.add(name)
        self._of_space(vars(loaded), name, str(getattr(loaded, "__package__", None) or ""))

    def _spec(self, name: str, loaded: types.ModuleType | None) -> Any:
        spec = getattr(loaded, "__spec__", None)
        if spec is not None and not _left(spec):
            return spec
        found = self._found_anew(name, loaded)
        if spec is None or (found is not None and not _left(found) and not _foreign(found)):
            return found
        return spec

    def _found_anew(self, name: str, loaded: types.ModuleType | None) -> Any:
        for root in self._declared:
            # What was declared goes before what Python would find.
            if root.place.partition(".")[0] == name and root.path.exists():
                return importlib.machinery.PathFinder.find_spec(name, [str(root.path.parent)])
        found = None
        if loaded is None:
            with contextlib.suppress(ImportError, ValueError, AttributeError):
                found = importlib.util.find_spec(name)
        elif getattr(loaded, "__spec__", None) is not None:
            importlib.invalidate_caches()
            found = importlib.machinery.PathFinder.find_spec(name)
        return found or importlib.machinery.PathFinder.find_spec(name, self._folders)

    def _below(self, above: str, last: str) -> Path | None:
        """Find a module inside a package of the user's own."""
        top = above.partition(".")[0]
        if not self.found.roots.get(top) and top not in self.found.gone:
            return None
        for folder in self._inside(above):
            if (folder / last / "__init__.py").is_file():
                return folder / last / "__init__.py"
            for suffix in _SUFFIXES:
                if (folder / f"{last}{suffix}").is_file():
                    return folder / f"{last}{suffix}"
        name = f"{above}.{last}"
        loaded = sys.modules.get(name)
        if loaded is not None and sources.is_local(loaded):
            self._gone(name, Path(str(loaded.__file__)))
        return None

    def _inside(self, package: str) -> Iterator[Path]:
        """List the folders in which a package's modules lie."""
        top, *rest = package.split(".")
        for root in self.found.roots.get(top, ()):
            if root.path.is_dir():
                yield root.path.joinpath(*rest)


def _left(spec: Any) -> bool:
    """Tell whether there is nothing any more where a module was found."""
    if spec.submodule_search_locations is not None:
        return not any(Path(p).is_dir() for p in spec.submodule_search_locations)
    return bool(spec.origin and spec.has_location and not Path(spec.origin).is_file())


def _foreign(spec: Any) -> bool:
    """Tell whether a module is not the user's own."""
    places = spec.submodule_search_locations or [spec.origin or ""]
    return all(sources.installed(Path(place)) for place in places)


def _modules_in(space: dict[str, Any]) -> Iterator[str]:
    """List the modules that a namespace refers to, by themselves or by what they define."""
    for value in list(space.values()):
        for one in (value, *_held(value)):
            inner = getattr(one, "fn", one)
            name = one.__name__ if isinstance(one, types.ModuleType) else _module_of(inner)
            if name is not None and name in sys.modules:
                yield name


def _held(value: Any) -> list[Any]:
    """List what a plain container holds."""
    if type(value) is dict:
        value = list(value.values())
    return list(value)[:_LOOKED_AT] if type(value) in (list, tuple, set, frozenset) else []


def _module_of(value: Any) -> str | None:
    """Name the module that defines something."""
    name = getattr(value, "__module__", None)
    return name if isinstance(name, str) else None


def declared_root(path: Path) -> Root:
    """Say where something declared is put on a worker: a module, a package, a folder of modules.

    Raises
    ------
    CodeError
        It is none of these.
    """
    if not path.exists():
        raise CodeError(f"nothing is named {str(path)!r}; write a file's or folder's path")
    if path.is_dir() and not (path / "__init__.py").is_file():
        return Root(path, "")
    if path.is_dir() or path.suffix in _SUFFIXES:
        refuse_shadow(path.name.partition(".")[0], path)
    return Root(path, path.name)
