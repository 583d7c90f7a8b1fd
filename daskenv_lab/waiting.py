"""Saying what is being waited for, in a terminal, a notebook or a log."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from typing import IO

_REPEAT = 10.0
"""Seconds until a pipe is told again that the same thing is still being waited for."""


class Waiting:
    """Says what is being waited for: on one line that changes, or on a line for each sentence.

    Parameters
    ----------
    stream : file
        Where it is said.
    updating : bool
        Whether the stream is a terminal or a notebook, which can take a line back.

    Examples
    --------
    >>> import sys
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
