"""Literals as ruff lays them out: on one line where they fit, else one item to a line.

Only literals, names and a handful of calls are ever written, and every text goes through `text`,
so that nothing in a value can become code. A group that is broken ends in a comma, which ruff
keeps broken; so a line must only be known to fit when it is left whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WIDTH = 88
"""The line length that ruff takes when it is told none."""

_SHORT_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


@dataclass(frozen=True, slots=True)
class Atom:
    """Code that is never broken, such as a number or a text."""

    code: str

    def flat(self) -> str:
        """Give the code on one line."""
        return self.code

    def lines(self, indent: int, before: str, after: str) -> Iterator[str]:
        """Give the code between `before` and `after`, in whole lines."""
        yield f"{' ' * indent}{before}{self.code}{after}"

    def head(self, room: int) -> int:
        """Give the width of the first line."""
        del room  # An atom is as wide as it is.
        return width(self.code)


@dataclass(frozen=True, slots=True)
class Pair:
    """A key and its value."""

    key: Atom | Group
    value: Atom | Group

    def flat(self) -> str:
        """Give the code on one line."""
        return f"{self.key.flat()}: {self.value.flat()}"

    def lines(self, indent: int, before: str, after: str) -> Iterator[str]:
        """Give the code between `before` and `after`, in whole lines."""
        room = WIDTH - indent - width(f"{before}{self.key.flat()}: ") - width(after)
        if isinstance(self.key, Atom) or self.value.head(room) <= room:
            yield from self.value.lines(indent, f"{before}{self.key.flat()}: ", after)
            return
        *first, last = self.key.broken(indent, before, "")
        yield from first
        yield from self.value.lines(indent, f"{last.strip()}: ", after)


@dataclass(frozen=True, slots=True)
class Named:
    """An argument, ``name=value`` or ``**value``."""

    prefix: str
    value: Atom | Group

    def flat(self) -> str:
        """Give the code on one line."""
        return f"{self.prefix}{self.value.flat()}"

    def lines(self, indent: int, before: str, after: str) -> Iterator[str]:
        """Give the code between `before` and `after`, in whole lines."""
        yield from self.value.lines(indent, f"{before}{self.prefix}", after)


@dataclass(frozen=True, slots=True)
class Group:
    """At least one item between brackets: a list, mapping, set, tuple or call."""

    start: str
    items: tuple[Atom | Group | Pair | Named, ...]
    end: str

    def flat(self) -> str:
        """Give the code on one line."""
        inner = ", ".join(item.flat() for item in self.items)
        lone = self.start == "(" and len(self.items) == 1
        return f"{self.start}{inner}{',' if lone else ''}{self.end}"

    def lines(self, indent: int, before: str, after: str) -> Iterator[str]:
        """Give the code between `before` and `after`, in whole lines."""
        whole = f"{' ' * indent}{before}{self.flat()}{after}"
        if width(whole) <= WIDTH:
            yield whole
        else:
            yield from self.broken(indent, before, after)

    def broken(self, indent: int, before: str, after: str) -> Iterator[str]:
        """Give the code with one item to a line."""
        yield f"{' ' * indent}{before}{self.start}"
        for item in self.items:
            yield from item.lines(indent + 4, "", ",")
        yield f"{' ' * indent}{self.end}{after}"

    def head(self, room: int) -> int:
        """Give the width of the first line, when there is `room` for it."""
        whole = width(self.flat())
        return whole if whole <= room else width(self.start)


def text(value: str, *, ascii_only: bool = False) -> str:
    """Write a text as ruff would: double quotes, unless single ones need fewer escapes.

    Examples
    --------
    >>> print(text('say "hi"'))
    'say "hi"'
    """
    quote = "'" if value.count('"') > value.count("'") else '"'
    return f"{quote}{''.join(_escaped(c, quote, ascii_only) for c in value)}{quote}"


def octets(value: bytes) -> str:
    """Write bytes as ruff would."""
    return f"b{text(value.decode('latin-1'), ascii_only=True)}"


def width(code: str) -> int:
    """Give the greatest number of columns that ruff could count for `code`."""
    return sum(1 if c.isascii() or _narrow_letter(c) else 2 for c in code)


def _narrow_letter(char: str) -> bool:
    return char.isalnum() and east_asian_width(char) not in {"F", "W"}


def call(name: str, items: Iterable[Atom | Group | Pair | Named]) -> Atom | Group:
    """Write a call of `name`."""
    given = tuple(items)
    return Group(f"{name}(", given, ")") if given else Atom(f"{name}()")


def _escaped(char: str, quote: str, ascii_only: bool) -> str:
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if char == quote:
        return f"\\{quote}"
    # What is not printable includes the marks that turn the direction of writing around.
    if char.isprintable() and (char.isascii() or not ascii_only):
        return char
    code = ord(char)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
