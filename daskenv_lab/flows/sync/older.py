"""What was taken of a module before it was loaded again: changed in place, and bound anew."""

from __future__ import annotations

import contextlib
import sys
import weakref
from typing import TYPE_CHECKING, Any

from prefect import Flow, Task

if TYPE_CHECKING:
    import types
    from collections.abc import Iterable, Iterator, Mapping

_older: dict[tuple[str, str], list[weakref.ref[Any]]] = {}
"""What modules defined before they were loaded again, by the module and the name."""


def change_in_place(module: types.ModuleType, before: Mapping[str, Any]) -> None:
    """Give what a module defined before it was loaded again the content of what it defines now.

    Functions and classes get what IPython's autoreload gives them. Tasks and flows get all, and
    stay what the module holds.
    """
    from IPython.extensions.autoreload import update_generic

    now = vars(module)
    for name, old in before.items():
        if _is_defined(module.__name__, name, old):
            _remember(module.__name__, name, old)
        if _is_made_in(module, old):
            # Copies by `with_options` hold the function.
            _remember(module.__name__, f"{name}.fn", old.fn)
    for name, old in _former(module.__name__):
        outer, _, inner = name.partition(".")
        new: Any = now.get(outer)
        # An object of another layout, or a function with other outer variables, stays old.
        with contextlib.suppress(Exception):
            update_generic(old, getattr(new, inner) if inner else new)
    for name, old in before.items():
        new = now.get(name)
        if new is old or not (_is_made_in(module, old) and _is_made_in(module, new)):
            continue
        if type(new) is type(old):
            vars(old).clear()
            vars(old).update(vars(new))
            now[name] = old


def bind_anew(spaces: Iterable[dict[str, Any]]) -> None:
    """Let names mean what modules define now, where they mean what these defined before.

    An old function or class is not what its module holds, and would be pickled by value.
    """
    newer: dict[int, tuple[Any, Any]] = {}
    for home in {home for home, _ in _older if home in sys.modules}:
        now = vars(sys.modules[home])
        for name, old in _former(home):
            if name in now and now[name] is not old:
                newer.setdefault(id(old), (old, now[name]))
    if not newer:
        return
    for space in spaces:
        for name, value in list(space.items()):
            if id(value) in newer:
                space[name] = newer[id(value)][1]
    for old, new in newer.values():
        if isinstance(old, type) and isinstance(new, type):
            _inherit_anew(old, new)


def _inherit_anew(old: type, new: type) -> None:
    below: list[type] = type.__subclasses__(old)
    for kind in below:
        with contextlib.suppress(TypeError):  # The new one's objects have another layout.
            kind.__bases__ = tuple(new if base is old else base for base in kind.__bases__)


def _is_defined(home: str, name: str, value: Any) -> bool:
    """Tell whether a function or class is of a module itself, and this is its first name."""
    own = getattr(value, "__qualname__", None)
    if getattr(value, "__module__", None) != home or not isinstance(own, str):
        return False
    # A function that another one made has no name that would tell.
    return own == name or "<" in own


def _remember(home: str, name: str, value: Any) -> None:
    with contextlib.suppress(TypeError):
        kept = _older.setdefault((home, name), [])
        kept[:] = [ref for ref in kept if ref() is not None]
        kept.append(weakref.ref(value))


def _former(home: str) -> Iterator[tuple[str, Any]]:
    for (module, name), references in list(_older.items()):
        for old in [ref() for ref in references] if module == home else []:
            if old is not None:
                yield name, old


def _is_made_in(module: types.ModuleType, value: Any) -> bool:
    """Tell whether something is a task or flow that no other module shares."""
    if not isinstance(value, Task | Flow):
        return False
    home = sys.modules.get(str(getattr(value.fn, "__module__", None)))
    if home is None or home is module:
        return True
    return all(other is not value for other in list(vars(home).values()))
