"""That task runs of a flow run have ended: what waiting threads wake up by, and who waited.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CLOSE = 0.001
"""Seconds between two waits of one thread up to which they are one."""


class Waited(NamedTuple):
    """A time for which a thread waited for task runs; in seconds of `time.monotonic`."""

    began: float
    ended: float
    ids: list[object]
    thread: int
    """The thread's number; 0 where a callback told of the end."""


class Ends(threading.Condition):
    """Notified when any task run of one flow run has ended.

    Parameters
    ----------
    waits : list, optional
        Where to note who waited, for what; None if nobody asks.
    """

    def __init__(self, waits: list[Waited] | None = None) -> None:
        super().__init__()
        self.waits = waits
        self._inside = threading.local()

    @contextlib.contextmanager
    def noted(self, ids: Iterable[object]) -> Iterator[None]:
        """Note that this thread waits for task runs meanwhile; not once more within."""
        if self.waits is None or getattr(self._inside, "noting", False):
            yield
            return
        self._inside.noting = True
        began = time.monotonic()
        try:
            yield
        finally:
            self._inside.noting = False
            self._note(Waited(began, time.monotonic(), list(ids), threading.get_ident()))

    def calling(self, fn: Callable[[Any], None], which: object) -> Callable[[Any], None]:
        """Give a callback that also notes that the flow's code waited for it from now on."""
        if self.waits is None:
            return fn
        began = time.monotonic()

        def call(future: Any) -> None:
            self._note(Waited(began, time.monotonic(), [which], 0))
            fn(future)

        return call

    def _note(self, wait: Waited) -> None:
        assert self.waits is not None  # noqa: S101 - `noted` has looked
        last = self.waits[-1] if self.waits else None
        same = last is not None and last.thread == wait.thread != 0
        if last is not None and same and wait.began - last.ended < CLOSE:
            last.ids.extend(wait.ids)
            self.waits[-1] = last._replace(ended=wait.ended)
        else:
            self.waits.append(wait)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
