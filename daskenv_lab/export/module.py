"""An environment as the text of a Python module that makes an equal one.

The module is made from the environment's written form, so it is equal by construction: whatever
has no written form cannot be exported, and a secret is there by its variable's name alone.
"""

from __future__ import annotations

import base64
import hashlib
import keyword
import math
import re
import textwrap
from datetime import UTC
from typing import TYPE_CHECKING, Any

from daskenv_lab import __version__
from daskenv_lab.environments.secret import mask
from daskenv_lab.errors import EnvironmentValueError, ExportError
from daskenv_lab.export.imports import Imports, importable, plain_name
from daskenv_lab.export.layout import WIDTH, Atom, Group, Named, Pair, call, octets, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from daskenv_lab.environments import Environment

_CHECKSUM = re.compile(r"(?<=Checksum )[0-9a-f]{16}")
_BLANK = "0" * 16


def python_module(environment: Environment, *, source: str, when: datetime) -> str:
    """Write the module that makes an equal environment when it is imported.

    The text is what ``ruff format`` would make of it, and passes ``ruff check``.

    Parameters
    ----------
    environment : Environment
        The settings.
    source : str
        Where they come from, such as ``the session 'dev'``.
    when : datetime
        When they were read; converted to UTC.

    Raises
    ------
    ExportError
        A setting cannot be written as code: a lambda, a function of the notebook, an open
        connection, or a password inside an address.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from daskenv_lab import DaskGatewayEnvironment
    >>> when = datetime(2026, 11, 21, tzinfo=UTC)
    >>> made = python_module(DaskGatewayEnvironment("local"), source="the session 'dev'", when=when)
    >>> print(made.partition("environment = ")[2])
    DaskGatewayEnvironment(
        gateway_address="local",
    )
    <BLANKLINE>
    """
    try:
        arguments = environment.to_dict()["arguments"]
    except EnvironmentValueError as error:
        raise ExportError(f"the environment cannot be exported: {error}") from error
    _refuse_open_secrets(arguments)
    imports = Imports()
    cls = imports.name(*_home(type(environment)))
    # The bodies are laid out first: they decide what is imported.
    writer = _Writer(imports, ascii_only=_has_lone_tuple(arguments))
    made = writer.constructor(cls, arguments)
    layout = made.broken if isinstance(made, Group) else made.lines
    body = layout(0, "environment = ", "")
    variables = sorted({secret.env_var for secret in environment.secrets})
    parts = [_docstring(source, when, variables), *imports.lines(), "", *body]
    return _signed("\n".join(parts) + "\n")


def _home(cls: type[Environment]) -> tuple[str, str]:
    """Give the module that offers an environment's class, and its name there."""
    if cls.__module__.startswith("daskenv_lab."):
        return "daskenv_lab", cls.__name__
    module, name, rest = importable(f"{cls.__module__}:{cls.__qualname__}", where="the class")
    if rest:
        raise ExportError(f"the class {cls.__qualname__!r} lies inside another; move it out")
    return module, name


def untouched(code: str) -> bool:
    """Tell whether a file's text is an export that nobody has edited since."""
    return _CHECKSUM.search(code) is not None and _signed(code) == code


def _signed(code: str) -> str:
    """Put the checksum of everything else in its place."""
    blank = _CHECKSUM.sub(_BLANK, code, count=1)
    return _CHECKSUM.sub(hashlib.sha256(blank.encode()).hexdigest()[:16], code, count=1)


def _docstring(source: str, when: datetime, variables: list[str]) -> str:
    """Say where the module comes from; nothing in `source` can end the docstring."""
    # Python 3.13 compiles no docstring that holds half of a surrogate pair, even if escaped.
    whole = source.encode("utf-8", "backslashreplace").decode("utf-8")
    said = text(whole.replace('"', "'"))[1:-1]
    at = when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    paragraphs = [
        f"Written by daskenv_lab {__version__} at {at}, from {said}.",
        f"Checksum {_BLANK}; a file that was edited since is not overwritten.",
    ]
    lines = ['"""The Dask environment of a flow, as it was tuned.']
    for paragraph in paragraphs:
        lines += ["", *textwrap.wrap(paragraph, WIDTH, break_on_hyphens=False)]
    if variables:
        lines += ["", "Each secret is read from a process variable when it is needed:"]
        lines += ["", *(f"- {name}" for name in variables)]
    return "\n".join([*lines, '"""', ""])


def _refuse_open_secrets(arguments: Any) -> None:
    """Refuse what would put a password or a key into the file."""
    for name, value in arguments.items():
        for found in _texts(value):
            if mask(found) != found:
                raise ExportError(
                    f"{name} holds an address with a password in it ({mask(found)!r:.120}), and an "
                    "export holds no secrets; take the password out of the address and give it as "
                    "an argument of its own, such as auth={'type': 'basic', 'password': ...}"
                )
            if "PRIVATE KEY-----" in found:
                raise ExportError(
                    f"{name} holds a private key as bytes, and an export holds no secrets; give "
                    "the path of a file, or the key as text"
                )


def _texts(written: Any) -> Iterable[str]:
    if isinstance(written, str):
        yield written
    elif isinstance(written, dict):
        if set(written) == {"$bytes"}:
            yield base64.b64decode(written["$bytes"]).decode("latin-1")
        for key, value in written.items():
            yield key
            yield from _texts(value)
    elif isinstance(written, list):
        for value in written:
            yield from _texts(value)


class _Writer:
    """Turns the written form of settings into literals, and notes what must be imported."""

    def __init__(self, imports: Imports, *, ascii_only: bool) -> None:
        self._imports = imports
        self._ascii_only = ascii_only
        self._where = ""
        self._tags: dict[str, Callable[[Any], Atom | Group]] = {
            "$bytes": lambda c: Atom(octets(base64.b64decode(c))),
            "$frozenset": lambda c: call("frozenset", [self._set(c)] if c else []),
            "$map": self._map,
            "$object": self._object,
            "$secret": self._secret,
            "$set": lambda c: self._set(c) if c else Atom("set()"),
            "$timedelta": self._timedelta,
            "$tuple": lambda c: self._group("(", c, ")"),
        }

    def constructor(self, cls: str, arguments: dict[str, Any]) -> Atom | Group:
        plain: list[Named] = []
        odd: list[Pair] = []
        for name, written in arguments.items():
            self._where = name
            value = self.value(written)
            if plain_name(name):
                plain.append(Named(f"{name}=", value))
            elif name.isidentifier() and not keyword.iskeyword(name):
                raise ExportError(f"{name!r} would be read as another name in code; rename it")
            else:
                # What is no name in code, such as "a-b", goes through a mapping.
                odd.append(Pair(self._text(name), value))
        if odd:
            plain.append(Named("**", Group("{", tuple(odd), "}")))
        return call(cls, plain)

    def value(self, written: Any) -> Atom | Group:
        match written:
            case None | bool():
                return Atom(repr(written))
            case int():
                return Atom(_whole(written))
            case float():
                return _real(written)
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


def _whole(value: int) -> str:
    if value.bit_length() <= 1024:
        return str(value)
    # Python refuses to read or write decimal numbers beyond some thousand digits.
    sign = "-" if value < 0 else ""
    return f"{sign}0x{abs(value):X}"


def _real(value: float) -> Atom | Group:
    if math.isfinite(value):
        return Atom(repr(value).replace("e+", "e"))
    return call("float", [Atom(text(repr(value)))])


def _has_lone_tuple(written: Any) -> bool:
    """Tell whether there is a tuple of one item anywhere.

    Ruff joins such a tuple again wherever it fits, broken or not, so that the width of the code
    around it must be known exactly; it is where everything is ASCII.
    """
    if isinstance(written, dict):
        lone = "$tuple" in written and len(written) == 1 and len(written["$tuple"]) == 1
        return lone or any(_has_lone_tuple(v) for v in written.values())
    return isinstance(written, list) and any(_has_lone_tuple(v) for v in written)
