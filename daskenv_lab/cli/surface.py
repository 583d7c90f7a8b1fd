"""Where a verb shows what it has to say: a terminal, a pipe or a notebook."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import sys
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daskenv_lab.session import Session

_REPEAT = 10.0
"""Seconds until a pipe is told again that the same thing is still being waited for."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Where a verb was typed, and so where its answer belongs.

    Parameters
    ----------
    namespace : mapping, optional
        The notebook's variables; None at a command line.
    """

    namespace: Mapping[str, Any] | None = None

    @property
    def notebook(self) -> bool:
        """Whether the verb is a magic's."""
        return self.namespace is not None

    def say(self, text: str) -> None:
        """Show an answer."""
        click.echo(text, file=sys.stdout)

    def say_json(self, answer: Any) -> None:
        """Show an answer as JSON alone."""
        self.say(json.dumps(_finite(answer), indent=2, default=str))

    def warn(self, text: str) -> None:
        """Show what is no answer."""
        click.echo(text, file=sys.stderr)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[Waiting]:
        """Give a place to say what is being waited for."""
        # A notebook paints everything on stderr red.
        stream = sys.stdout if self.notebook else sys.stderr
        waiting = Waiting(stream, updating=self.notebook or stream.isatty())
        try:
            yield waiting
        finally:
            waiting.clear()

    def hold(self, session: Session) -> Session:
        """Keep a session open in a notebook; at a command line, close it after the verb."""
        if not self.notebook:
            click.get_current_context().call_on_close(session.close)
        return session


class Waiting:
    """Says what is being waited for: on one line that changes, or on a line for each sentence.

    Examples
    --------
    >>> waiting = Waiting(sys.stdout, updating=False)
    >>> waiting("Waiting for the scheduler, 1 s")
    Waiting for the scheduler, 1 s
    >>> waiting("Waiting for the scheduler, 2 s")
    """

    def __init__(self, stream: IO[str], *, updating: bool) -> None:
        self._stream = stream
        self._updating = updating
        self._shown = 0
        self._last = ("", 0.0)

    def __call__(self, sentence: str) -> None:
        """Say one sentence."""
        sentence = " ".join(sentence.split())
        if self._updating:
            room = max(20, shutil.get_terminal_size().columns - 1)
            sentence = sentence if len(sentence) <= room else f"{sentence[: room - 1]}…"
            self._write(f"\r{sentence:<{self._shown}}")
            self._shown = len(sentence)
            return
        # A sentence that only counts on is not worth another line in a log.
        gist, now = re.sub(r"\d+", "", sentence), time.monotonic()
        said, when = self._last
        if gist != said or now - when >= _REPEAT:
            self._write(f"{sentence}\n")
            self._last = (gist, now)

    def clear(self) -> None:
        """Wipe the line that changes."""
        if self._shown:
            self._write(f"\r{'':<{self._shown}}\r")
            self._shown = 0

    def _write(self, text: str) -> None:
        # Nobody who waits should fail because nobody listens.
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(text)
            self._stream.flush()


def _finite(answer: Any) -> Any:
    """Replace the numbers that JSON does not have by their names."""
    if isinstance(answer, float) and not math.isfinite(answer):
        return str(answer)
    if isinstance(answer, dict):
        return {k: _finite(v) for k, v in answer.items()}
    return [_finite(v) for v in answer] if isinstance(answer, list | tuple) else answer
