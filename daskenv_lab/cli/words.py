"""Words to values: a magic's line into arguments, and an argument into a Python literal.

Nothing is ever evaluated: a value is a literal, or else it is text.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_QUOTES = "\"'"
# What may stand before a quote for it to open a text: nothing, '=' or a prefix as in b'..'.
_OPENS_TEXT = re.compile(r"(?:^|=)(?:[bBrRuU]|[bB][rR]|[rR][bB])?$")
_LITERAL_START = re.compile(r"[\[({\"']|(?:[bBrRuU]|[bB][rR]|[rR][bB])[\"']")
_LONGEST = 100_000


def split_line(line: str) -> list[str]:
    """Split a magic's line into arguments, at blanks outside of brackets and quotes.

    Quotes around a whole argument are taken off; those around a value stay, as they make it a
    text. ``#`` at the start of an argument begins a comment.

    Raises
    ------
    CommandError
        A bracket or a quote is never closed.

    Examples
    --------
    >>> split_line("run add_up x=[1, 2, 3] name='a b'  # thrice")
    ['run', 'add_up', 'x=[1, 2, 3]', "name='a b'"]
    """
    words: list[str] = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
        elif line[at] == "#":
            break
        else:
            end = _end_of_word(line, at)
            words.append(_unquoted(line[at:end]))
            at = end
    return words


def assignments(words: Iterable[str], *, noun: str) -> dict[str, Any]:
    """Read ``key=value`` words.

    Parameters
    ----------
    words : iterable of str
        Such as ``["x=[1, 2]", "day=2026-11-21"]``.
    noun : str
        What a key is called in an error: parameter, option.

    Raises
    ------
    CommandError
        A word has no key, a key comes twice, or a value is a broken literal.

    Examples
    --------
    >>> assignments(["x=[1, 2]", "day=2026-11-21"], noun="parameter")
    {'x': [1, 2], 'day': '2026-11-21'}
    """
    given: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise CommandError(
                f"{_short(word)} is no {noun}; write it as name=value, with no blanks around '='"
            )
        if key in given:
            raise CommandError(f"the {noun} {key!r} is given twice; give it once")
        given[key] = literal(value, name=key)
    return given


def literal(value: str, *, name: str) -> Any:
    """Read a value: a Python literal, or else text.

    Raises
    ------
    CommandError
        It begins like a literal and is none.

    Examples
    --------
    >>> literal("[1, 2]", name="x"), literal("None", name="x"), literal("abc", name="x")
    ([1, 2], None, 'abc')
    """
    try:
        # Python's own limit lies at the nesting of brackets; this one is against the rest.
        if len(value) > _LONGEST:
            raise CommandError(
                f"{name} is given {len(value)} characters, and takes {_LONGEST}; "
                "call daskenv_lab.run(flow, ...) in Python with so long a value"
            )
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        if isinstance(error, CommandError):
            raise
        if not _LITERAL_START.match(value.strip()):
            return value
        raise CommandError(
            f"{name}={_short(value, quoted=False)} is no Python literal ({_reason(error)}); close "
            "its brackets and quotes, quote the words inside, and in a shell quote the whole"
        ) from error


def _end_of_word(line: str, start: int) -> int:
    """Find where the word ends that begins at `start`."""
    open_brackets: list[tuple[str, int]] = []
    at = start
    while at < len(line):
        char = line[at]
        if char.isspace() and not open_brackets:
            break
        if char in _QUOTES and (open_brackets or _OPENS_TEXT.search(line[start:at])):
            at = _end_of_text(line, at)
            continue
        if char in _CLOSING:
            open_brackets.append((char, at))
        elif open_brackets and char in _CLOSING.values():
            opened, where = open_brackets.pop()
            if _CLOSING[opened] != char:
                raise CommandError(
                    f"{opened!r} is closed by {char!r} in {_short(line[where : at + 1])}; "
                    f"write {_CLOSING[opened]!r} there"
                )
        at += 1
    if open_brackets:
        opened, _ = open_brackets[-1]
        raise CommandError(
            f"{opened!r} in {_short(line[start:])} is never closed; "
            f"add {_CLOSING[opened]!r} at its end"
        )
    return at


def _end_of_text(line: str, start: int) -> int:
    """Find where the text ends whose quote is at `start`."""
    quote = line[start] * (3 if line.startswith(line[start] * 3, start) else 1)
    at = start + len(quote)
    while at < len(line):
        if line[at] == "\\":
            at += 2
        elif line.startswith(quote, at):
            return at + len(quote)
        else:
            at += 1
    raise CommandError(
        f"the quote in {_short(line[start:])} is never closed; add {quote} at its end"
    )


def _unquoted(word: str) -> str:
    """Take the quotes off a whole word, or off the value of a ``--option=``."""
    head, equals, tail = word.partition("=")
    if word.startswith("--") and equals and _quoted(tail):
        return f"{head}={tail[1:-1]}"
    return word[1:-1] if _quoted(word) else word


def _quoted(word: str) -> bool:
    return len(word) > 1 and word[0] in _QUOTES and _end_of_text(word, 0) == len(word)


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return str(error.msg)
    if isinstance(error, MemoryError | RecursionError):
        return "it is nested too deeply"
    return "it holds a name or a calculation"


def _short(word: str, *, quoted: bool = True) -> str:
    shown = word if len(word) <= 60 else f"{word[:57]}..."
    return repr(shown) if quoted else shown
