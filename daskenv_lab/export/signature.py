"""What each export says of itself: where it comes from, its secrets, and a checksum."""

from __future__ import annotations

import hashlib
import re
import textwrap
from datetime import UTC
from typing import TYPE_CHECKING

from daskenv_lab import __version__
from daskenv_lab.export.layout import WIDTH, text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

_CHECKSUM = re.compile(r"(?<=Checksum )[0-9a-f]{16}")
_BLANK = "0" * 16


def paragraphs(source: str, when: datetime) -> tuple[str, str]:
    """Say where an export comes from, and leave room for its checksum.

    Nothing in `source` can end a comment or a docstring.
    """
    # Python 3.13 compiles no docstring that holds half of a surrogate pair, even if escaped.
    whole = source.encode("utf-8", "backslashreplace").decode("utf-8")
    said = text(whole.replace('"', "'"))[1:-1]
    at = when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f"Written by daskenv_lab {__version__} at {at}, from {said}.",
        f"Checksum {_BLANK}; a file that was edited since is not overwritten.",
    )


def comment(source: str, when: datetime, secrets: Iterable[str], *further: str) -> str:
    """Write the comment at the top of a file whose comments start with ``#``."""
    told = [*paragraphs(source, when), *further]
    if names := ", ".join(secrets):
        told.append(f"Each secret is read from a process variable when it is needed: {names}.")
    lines = [line for said in told for line in textwrap.wrap(said, WIDTH, break_on_hyphens=False)]
    plain = "".join(f"# {line}\n" for line in lines)
    return plain.encode("ascii", "backslashreplace").decode("ascii")


def untouched(code: str) -> bool:
    """Tell whether a file's text is an export that nobody has edited since."""
    return _CHECKSUM.search(code) is not None and signed(code) == code


def signed(code: str) -> str:
    """Put the checksum of everything else in its place."""
    blank = _CHECKSUM.sub(_BLANK, code, count=1)
    return _CHECKSUM.sub(hashlib.sha256(blank.encode()).hexdigest()[:16], code, count=1)
