"""The source of one function or class, as it must stand in a module of its own."""

from __future__ import annotations
import __future__

import ast
import inspect
import linecache
import sys
import textwrap
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from daskenv_lab.environments.secret import mask
from daskenv_lab.errors import ExportError
from daskenv_lab.export.names import Names, names_in

_MOVE = "write it as a function at the top level of the notebook or module"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A definition's source, and what it needs."""

    name: str
    source: str
    decorated: bool
    names: Names
    namespace: dict[str, Any]
    future: bool
    """Whether it was written under ``from __future__ import annotations``."""


def defined(value: Any) -> FunctionType | type | None:
    """Give the function or class behind a value: a Prefect flow or task has it as ``fn``."""
    if isinstance(value, type):
        return value
    inner = getattr(value, "fn", value) if callable(value) else None
    inner = inspect.unwrap(inner) if callable(inner) else None
    return inner if isinstance(inner, FunctionType) else None


def block_of(value: FunctionType | type) -> Block:
    """Read the source of a function or class.

    Raises
    ------
    ExportError
        It has none, or its source means nothing without what stands around it.
    """
    name = value.__qualname__.rpartition("<locals>.")[2]
    if isinstance(value, FunctionType):
        _refuse_bound(value, name)
    try:
        found = _cell_source(value) or inspect.getsource(value)
    except (OSError, TypeError) as error:
        raise ExportError(
            f"{name!r} has no source that can be read ({error}); {_MOVE}, or in a file"
        ) from error
    source, node = _dedented(found, name)
    if getattr(node, "name", None) != value.__name__:
        raise ExportError(
            f"the source of {name!r} is not what its file holds now; run the cell or load the "
            "module again, and export then"
        )
    _refuse_secrets(node, name)
    future = _written_for_the_future(value)
    return Block(
        name=value.__name__,
        source=source,
        decorated=bool(getattr(node, "decorator_list", ())),
        names=names_in(source, future=future),
        namespace=_namespace(value),
        future=future,
    )


def _refuse_bound(function: FunctionType, name: str) -> None:
    if function.__name__ == "<lambda>":
        raise ExportError(f"a lambda ({name!r}) cannot be exported by its source; {_MOVE}")
    if "." in name:
        raise ExportError(f"{name!r} lies in a class, and is exported by its source; {_MOVE}")
    free = ", ".join(map(repr, function.__code__.co_freevars))
    if free:
        raise ExportError(
            f"{name!r} uses {free} of the function in which it was made, so that its source is "
            f"not all of it; {_MOVE}, and make {free} a constant there or a parameter"
        )


def _dedented(found: str, name: str) -> tuple[str, ast.stmt]:
    """Take a definition out of what stands around it, if that changes nothing in it."""
    source = textwrap.dedent(found).strip("\n") + "\n"
    try:
        (node,) = ast.parse(source).body
        if found[:1].isspace():
            inside = ast.parse(f"if True:\n{found}").body[0]
            assert isinstance(inside, ast.If)  # noqa: S101 - for the type checker
            if _meaning(inside.body[0]) != _meaning(node):
                raise ValueError("it holds a text of several lines")
    except (SyntaxError, ValueError) as error:
        raise ExportError(
            f"the source of {name!r} cannot be taken out of its surroundings ({error}); {_MOVE}"
        ) from error
    for inner in ast.walk(node):
        if isinstance(inner, ast.ImportFrom) and inner.level:
            raise ExportError(
                f"{name!r} imports from {'.' * inner.level}{inner.module or ''}, which means "
                "something else in another module; write the whole name of the module"
            )
    return source, node


def _meaning(node: ast.stmt) -> str:
    """Write out a definition without its docstrings, of which Python takes the margin anyhow."""
    copy = ast.parse(ast.unparse(node)).body[0]
    for inner in ast.walk(copy):
        body = getattr(inner, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    return ast.dump(copy)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _refuse_secrets(node: ast.stmt, name: str) -> None:
    for inner in ast.walk(node):
        if not isinstance(inner, ast.Constant):
            continue
        said = inner.value
        text = said.decode("latin-1") if isinstance(said, bytes) else said
        if isinstance(text, str) and (mask(text) != text or "PRIVATE KEY-----" in text):
            raise ExportError(
                f"the source of {name!r} holds a password or a private key in line "
                f"{inner.lineno}, and an export holds no secrets; read it from a process variable"
            )


def _namespace(value: FunctionType | type) -> dict[str, Any]:
    if isinstance(value, FunctionType):
        return value.__globals__
    for method in _methods(value):
        return method.__globals__
    return vars(sys.modules[value.__module__]) if value.__module__ in sys.modules else {}


def _methods(cls: type) -> list[FunctionType]:
    """Give the functions that a class's own source holds."""
    held = [getattr(v, "fget", None) or getattr(v, "__func__", v) for v in vars(cls).values()]
    found = [inspect.unwrap(f) for f in held if isinstance(f, FunctionType)]
    made = [f for f in found if f.__module__ == cls.__module__]
    # A dataclass's further functions come from no file.
    return [f for f in made if f.__code__.co_filename != "<string>"]


def _written_for_the_future(value: FunctionType | type) -> bool:
    flag = __future__.annotations.compiler_flag
    if isinstance(value, FunctionType):
        return bool(value.__code__.co_flags & flag)
    if methods := _methods(value):
        return any(f.__code__.co_flags & flag for f in methods)
    hints = vars(value).get("__annotations__", {})
    return any(isinstance(hint, str) for hint in hints.values())


def _cell_source(value: FunctionType | type) -> str | None:
    """Find a notebook's class in its cells: `inspect` looks for classes in files only."""
    if isinstance(value, FunctionType):
        return None
    if getattr(sys.modules.get(value.__module__), "__file__", None) is not None:
        return None
    own = {f.__code__.co_filename for f in _methods(value)}
    for file, entry in reversed(list(linecache.cache.items())):
        if len(entry) == 4 and (file in own or (not own and entry[1] is None)):
            found = _class_in("".join(entry[2]), value)
            if found is not None:
                return found
    return None


def _class_in(cell: str, cls: type) -> str | None:
    """Give the source of the class in a cell that has the same fields."""
    try:
        body = ast.parse(cell).body
    except (SyntaxError, ValueError):
        return None
    fields = [*vars(cls).get("__annotations__", {})]
    for node in reversed(body):
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            own = [n.target for n in node.body if isinstance(n, ast.AnnAssign)]
            if [t.id for t in own if isinstance(t, ast.Name)] == fields:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                return "\n".join(cell.splitlines()[first - 1 : node.end_lineno])
    return None
