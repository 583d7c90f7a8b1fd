"""The slot of a worker's thread: a task that waits for tasks gives it to others meanwhile.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import cloudpickle
import distributed
import distributed.threadpoolexecutor

if TYPE_CHECKING:
    from collections.abc import Iterator


def leave_the_slot() -> None:
    """Give this worker thread's slot to other tasks, for good; does nothing elsewhere."""
    if getattr(distributed.threadpoolexecutor.thread_state, "proceed", False):
        distributed.secede()


@contextlib.contextmanager
def out_of_the_slot() -> Iterator[None]:
    """Give this worker thread's slot to other tasks while it waits; does nothing elsewhere."""
    if not getattr(distributed.threadpoolexecutor.thread_state, "proceed", False):
        yield
        return
    distributed.secede()
    try:
        yield
    finally:
        distributed.rejoin()


cloudpickle.register_pickle_by_value(sys.modules[__name__])
