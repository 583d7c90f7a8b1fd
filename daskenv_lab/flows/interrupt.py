"""Ending a call that is no longer wanted: a task's on a worker, or a flow's.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import TaskRun


class Stopped(BaseException):
    """Raised inside a task that is no longer wanted."""

    def __str__(self) -> str:
        return "the flow run ended or was cancelled before this task run did"


class Interruptible:
    """What the thread that makes this does until `over`, and how to stop it."""

    raises: ClassVar[type[BaseException]] = Stopped
    """What a stop raises in the thread."""

    def __init__(self) -> None:
        self.stopped = False
        self._lock = threading.Lock()
        self._thread: int | None = threading.get_ident()
        self._stop: Callable[[], Any] = self._raise_in_thread

    def stop(self) -> None:
        """Raise in the thread, or cancel the coroutine; once."""
        with self._lock:
            if self._thread is not None and not self.stopped:
                self.stopped = True
                self._stop()

    def run_in_loop(self, loop: Any, task: Any) -> None:
        """Note that it is a coroutine, which is cancelled and not interrupted."""
        self._stop = lambda: loop.call_soon_threadsafe(task.cancel)

    def over(self) -> None:
        """Note that the thread goes on to something else, and take back what is under way."""
        with self._lock:
            if self._thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)
            self._thread = None

    def _raise_in_thread(self) -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self._thread or 0), ctypes.py_object(self.raises)
        )


class Call(Interruptible):
    """A task call while it runs."""

    def __init__(self, key: Any, task_run: TaskRun) -> None:
        super().__init__()
        self.key = key
        self.task_run = task_run


cloudpickle.register_pickle_by_value(sys.modules[__name__])
