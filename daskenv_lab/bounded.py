"""Waiting with a limit, for calls that have none of their own."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Deadline:
    """A moment from which a time limit has run out.

    Examples
    --------
    >>> Deadline(10).passed
    False
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then, never below 0."""
        return max(0.0, self._end - time.monotonic())

    @property
    def spent(self) -> float:
        """Seconds since the waiting began."""
        return self.seconds - (self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the limit has run out."""
        return self.left <= 0

    def expire(self) -> None:
        """Let the limit run out now, for whoever else waits for it."""
        self._end = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the limit."""
        time.sleep(min(seconds, self.left))


def in_background(call: Callable[[], T]) -> Future[T]:
    """Make a call in a thread that may be abandoned; wait with ``.result(timeout)``.

    A pool's threads are joined when the interpreter ends, and would hold it up.

    Examples
    --------
    >>> in_background(lambda: 1 + 1).result(5)
    2
    """
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            answer.set_exception(error)

    threading.Thread(target=work, name="daskenv-call", daemon=True).start()
    return answer
