"""Being told when Dask is done with tasks, of which a flow run may have many.

Dask starts a coroutine for each ``Future.add_done_callback``, and keeps it until the task is done:
3 kB and a tenth of a millisecond each. What a future waits with is an event, of which its state
makes the first use when it ends; here that event tells. None of it is promised by Dask:
``tests/flows/test_done.py`` says what we count on.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import distributed

_log = logging.getLogger(__name__)


class Telling:
    """Tells of Dask's futures, in a thread of its own, when they are done.

    Parameters
    ----------
    tell : callable
        Told once for each, in the order of their ends, whether they finished, erred, were
        cancelled, or were lost with the scheduler.
    """

    def __init__(self, tell: Callable[[Any], None]) -> None:
        self._tell = tell
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False

    def add(
        self, client: distributed.Client, futures: Iterable[tuple[distributed.Future, Any]]
    ) -> None:
        """Tell of futures of a client from now on; each comes with what is told of it."""
        # States belong to the client's loop.
        client.loop.add_callback(self._watch, list(futures))

    def close(self) -> None:
        """Tell of no further end."""
        self._closed = True
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    def _watch(self, futures: list[tuple[distributed.Future, Any]]) -> None:
        for future, what in futures:
            state = future._state
            if future.done():
                self._submit(what)
            elif state._event is None:
                state._event = _End(self._submit, what)
            else:  # somebody waits for it already
                future.add_done_callback(lambda _, what=what: self._told(what))

    def _submit(self, what: Any) -> None:
        if self._thread is None and not self._closed:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="daskenv-ends")
        if self._thread is not None:
            with contextlib.suppress(RuntimeError):  # it has been closed
                self._thread.submit(self._told, what)

    def _told(self, what: Any) -> None:
        try:
            self._tell(what)
        except Exception:  # noqa: BLE001 - it is logged; the next is told
            _log.exception("what was to be done at a task's end failed")


class _End:
    """Stands in for the `asyncio.Event` of a future's state, and tells when it is first set."""

    __slots__ = ("_event", "_submit", "_what")

    def __init__(self, submit: Callable[[Any], None], what: Any) -> None:
        self._submit: Callable[[Any], None] | None = submit
        self._what = what
        self._event: asyncio.Event | bool = False
        """Made when somebody waits for it; until then, whether it is set."""

    def is_set(self) -> bool:
        return self._event if isinstance(self._event, bool) else self._event.is_set()

    def set(self) -> None:
        if isinstance(self._event, bool):
            self._event = True
        else:
            self._event.set()
        submit, what = self._submit, self._what
        self._submit = self._what = None
        if submit is not None:
            submit(what)

    def clear(self) -> None:
        if isinstance(self._event, bool):
            self._event = False
        else:
            self._event.clear()

    async def wait(self) -> bool:
        if self._event is True:
            return True
        if isinstance(self._event, bool):
            self._event = asyncio.Event()
        return await self._event.wait()


cloudpickle.register_pickle_by_value(sys.modules[__name__])
