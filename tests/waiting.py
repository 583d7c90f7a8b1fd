"""How the tests wait: until something is true, and never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(happened: Callable[[], T], seconds: float = 120, *, every: float = 0.1) -> T:
    """Call until the answer is true, give that, and fail if it never is.

    The limit is for a busy machine, and not what is tested: nothing asserts that it was faster.
    """
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"it did not happen in {seconds} s: {found!r}"
        time.sleep(every)
    return found
