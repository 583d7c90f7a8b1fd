"""Holding signals back while a cluster is taken down."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HELD = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Let an interruption wait until the block is over; it then comes as it would have.

    Only the main thread is interrupted by signals, so that others hold nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, _: Any) -> None:
        came.append(number)

    before = [(number, signal.signal(number, note)) for number in HELD]
    try:
        yield
    finally:
        for number, handler in before:
            # None: it was not set from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    for again in dict.fromkeys(came):
        signal.raise_signal(again)
