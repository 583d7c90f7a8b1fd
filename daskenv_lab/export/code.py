"""The written form of settings as code: literals, and calls of the few names that it needs."""

from __future__ import annotations

import base64
import keyword
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import ExportError
from daskenv_lab.export.imports import Imports, importable, plain_name
from daskenv_lab.export.layout import Atom, Group, Named, Pair, call, octets, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Writer:
    """Turns the written form of settings into literals, and notes what must be imported.

    Parameters
    ----------
    imports : Imports
        Where what must be imported is noted.
    ascii_only : bool
        Write no letter beyond ASCII.

    Examples
    --------
    >>> Writer(Imports(), ascii_only=False).value({"$tuple": [1, "a"]}).flat()
    '(1, "a")'
    """

    def __init__(self, imports: Imports, *, ascii_only: bool) -> None:
        self._imports = imports
        self._ascii_only = ascii_only
        self._where = ""
        self._tags: dict[str, Callable[[Any], Atom | Group]] = {
            "$bytes": lambda c: Atom(octets(base64.b64decode(c))),
            "$float": lambda c: call("float", [Atom(text(c))]),
            "$frozenset": lambda c: call("frozenset", [self._set(c)] if c else []),
            "$int": lambda c: Atom(f"{c[: c.index('x') + 1]}{c[c.index('x') + 1 :].upper()}"),
            "$map": self._map,
            "$object": self._object,
            "$secret": self._secret,
            "$set": lambda c: self._set(c) if c else Atom("set()"),
            "$timedelta": self._timedelta,
            "$tuple": lambda c: self._group("(", c, ")"),
        }

    def constructor(
        self,
        called: str,
        arguments: Mapping[str, Any],
        code: Mapping[str, Atom] = MappingProxyType({}),
        *first: Atom,
    ) -> Atom | Group:
        """Write a call with keyword arguments, sorted, some of which are `code` already."""
        given: dict[str, Atom | Group] = {**code}
        for name, written in arguments.items():
            self._where = name
            given[name] = self.value(written)
        plain = {name: value for name, value in given.items() if self._is_plain(name)}
        # What is no name in code, such as "a-b", goes through a mapping.
        odd = tuple(Pair(self._text(n), v) for n, v in sorted(given.items()) if n not in plain)
        items = [Named(f"{name}=", value) for name, value in sorted(plain.items())]
        return call(called, [*first, *items, *([Named("**", Group("{", odd, "}"))] if odd else [])])

    @staticmethod
    def _is_plain(name: str) -> bool:
        if name.isidentifier() and not keyword.iskeyword(name) and not plain_name(name):
            raise ExportError(f"{name!r} would be read as another name in code; rename it")
        return plain_name(name)

    def value(self, written: Any) -> Atom | Group:
        """Write one setting."""
        match written:
            case None | bool():
                return Atom(repr(written))
            case int():
                return Atom(str(written))
            case float():
                return Atom(repr(written).replace("e+", "e"))
            case str():
                return self._text(written)
            case list():
                return self._group("[", written, "]")
        if len(written) == 1:
            tag, content = next(iter(written.items()))
            if tag in self._tags:
                return self._tags[tag](content)
            if tag.startswith("$"):
                raise ExportError(f"{self._where} has the written form {tag!r}, which has no code")
        pairs = tuple(Pair(self._text(k), self.value(v)) for k, v in written.items())
        return Group("{", pairs, "}") if pairs else Atom("{}")

    def _text(self, value: str) -> Atom:
        return Atom(text(value, ascii_only=self._ascii_only))

    def _group(self, start: str, items: list[Any], end: str) -> Atom | Group:
        made = tuple(self.value(item) for item in items)
        return Group(start, made, end) if made else Atom(f"{start}{end}")

    def _set(self, members: list[Any]) -> Group:
        return Group("{", tuple(self.value(m) for m in members), "}")

    def _map(self, pairs: list[list[Any]]) -> Group:
        return Group("{", tuple(Pair(self.value(k), self.value(v)) for k, v in pairs), "}")

    def _secret(self, env_var: str) -> Atom | Group:
        return call(self._imports.name("daskenv_lab", "Secret"), [Atom(text(env_var))])

    def _timedelta(self, parts: list[int]) -> Atom | Group:
        names = ("days", "seconds", "microseconds")
        given = [Named(f"{n}=", Atom(str(p))) for n, p in zip(names, parts, strict=True) if p]
        return call(self._imports.name("datetime", "timedelta"), given)

    def _object(self, path: str) -> Atom:
        module, name, rest = importable(path, where=self._where)
        return Atom(f"{self._imports.name(module, name)}{rest}")


def has_lone_tuple(written: Any) -> bool:
    """Tell whether there is a tuple of one item anywhere.

    Ruff joins such a tuple again wherever it fits, broken or not, so that the width of the code
    around it must be known exactly; it is where everything is ASCII.
    """
    if isinstance(written, dict):
        lone = "$tuple" in written and len(written) == 1 and len(written["$tuple"]) == 1
        return lone or any(has_lone_tuple(v) for v in written.values())
    return isinstance(written, list) and any(has_lone_tuple(v) for v in written)
