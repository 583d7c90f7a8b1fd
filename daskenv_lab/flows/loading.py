"""Finding the flow that a word means: in a notebook, a file or a module."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import Flow

from daskenv_lab import sources
from daskenv_lab.errors import FlowNotFound, did_you_mean
from daskenv_lab.flows.sync.find import find_in
from daskenv_lab.flows.sync.refresh import refresh, without_cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType


def load_flow(spec: Any, namespace: Mapping[str, Any] | None = None) -> Flow[..., Any]:
    """Find a flow.

    Parameters
    ----------
    spec : Flow or str
        A flow; the name of a variable of `namespace` that holds one, or the flow's own name;
        ``path.py:flow``; ``module:flow``; or ``path.py`` with exactly one flow.
    namespace : mapping, optional
        A notebook's variables.

    Raises
    ------
    FlowNotFound
        There is none; the nearest is named.

    Examples
    --------
    >>> load_flow("flows/etl.py:etl")  # doctest: +SKIP
    """
    if isinstance(spec, Flow):
        return spec
    word = str(spec)
    place, colon, name = word.rpartition(":")
    if re.match(r"^[A-Za-z]:[\\/]", word) and word.count(":") == 1:
        place, colon, name = "", "", word
    if colon and place and name:
        return _named(_module(place), name, place)
    if word.endswith(".py") or "/" in word or "\\" in word:
        return _only(_module(word), word)
    found = flows_in(namespace or {})
    if word in found:
        return found[word]
    for flow in found.values():
        if flow.name == word:
            return flow
    known = flow_names(namespace)
    hint = did_you_mean(word, known) if known else "no flow is defined here"
    raise FlowNotFound(f"no flow is named {word!r}; {hint}, or write `path.py:flow`")


def flows_at(place: str) -> dict[str, Flow[..., Any]]:
    """Give the flows that a file defines, by the word that finds each: ``path.py:flow``.

    Raises
    ------
    FlowNotFound
        There is no such file, it cannot be imported, or it has no flow.
    """
    module = _module(place)
    own = {n: f for n, f in flows_in(vars(module)).items() if f.fn.__module__ == module.__name__}
    if not own:
        raise FlowNotFound(f"{place!r} has no flow; decorate one with `@prefect.flow`")
    return {f"{place}:{name}": flow for name, flow in own.items()}


def flow_names(namespace: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """List the names by which a notebook's flows are found, for completion."""
    found = flows_in(namespace or {})
    return tuple(sorted({*found, *(flow.name for flow in found.values())}))


def flows_in(namespace: Mapping[str, Any]) -> dict[str, Flow[..., Any]]:
    """Give the flows among a notebook's variables, by the variable's name.

    Examples
    --------
    >>> flows_in({"x": 1})
    {}
    """
    return {
        name: value
        for name, value in list(namespace.items())
        if isinstance(value, Flow) and not name.startswith("_")
    }


def _named(module: ModuleType, name: str, place: str) -> Flow[..., Any]:
    found = flows_in(vars(module))
    if name in found:
        return found[name]
    for flow in found.values():
        if flow.name == name:
            return flow
    known = sorted(found)
    hint = did_you_mean(name, known) if known else "it has none; decorate one with `@prefect.flow`"
    raise FlowNotFound(f"{place!r} has no flow {name!r}; {hint}")


def _only(module: ModuleType, place: str) -> Flow[..., Any]:
    found = flows_in(vars(module))
    own = {n: f for n, f in found.items() if f.fn.__module__ == module.__name__} or found
    flows = {id(flow): flow for flow in own.values()}
    if len(flows) == 1:
        return next(iter(flows.values()))
    if not flows:
        raise FlowNotFound(f"{place!r} has no flow; decorate one with `@prefect.flow`")
    names = ", ".join(f"{place}:{name}" for name in sorted(own))
    raise FlowNotFound(f"{place!r} has {len(flows)} flows; name one of them: {names}")


def _module(place: str) -> ModuleType:
    """Import a file or module, and note what the local modules were loaded from."""
    if place.endswith(".py") or "/" in place or "\\" in place:
        module = _import_file(Path(place).expanduser())
    else:
        with _on_path(Path.cwd()):
            module = _import(place, lambda: importlib.import_module(place))
    sources.note_loaded()
    return module


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = [str(p) for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        hint = did_you_mean(str(path), near) if near else "its folder holds no Python file"
        raise FlowNotFound(f"no file is named {str(path)!r}; {hint}")
    path = path.resolve()
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) != str(path):
        name = f"daskenv_flow_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FlowNotFound(f"{str(path)!r} is no Python file; name one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    loader = spec.loader

    # What it imports may have been loaded before, from older files.
    refresh(find_in(path).reached)
    without_cache(path)

    def execute() -> ModuleType:
        sys.modules[name] = module
        try:
            loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return module

    with _on_path(path.parent):
        imported = _import(str(path), execute)
    if str(path.parent) not in sys.path:
        # Its functions may import their neighbours later, as in a script; behind all else.
        sys.path.append(str(path.parent))
    return imported


def _import(place: str, load: Any) -> ModuleType:
    try:
        module: ModuleType = load()
    except ModuleNotFoundError as error:
        if error.name == place or place.startswith(f"{error.name}."):
            raise FlowNotFound(
                f"no module is named {place!r}; write `path.py:flow` for a file"
            ) from error
        raise FlowNotFound(
            f"{place!r} imports {error.name!r}, which is not installed here; install it with pip"
        ) from error
    except Exception as error:
        raise FlowNotFound(
            f"{place!r} cannot be imported ({type(error).__name__}: {error}); run it with Python "
            "to see where it fails"
        ) from error
    return module


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
