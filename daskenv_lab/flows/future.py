"""`DaskFuture`: what `task.submit()` gives, in the kernel and inside tasks on workers.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
import distributed
import distributed.threadpoolexecutor
from distributed.scheduler import KilledWorker
from prefect.futures import PrefectTaskRunFuture
from prefect.states import Cancelled, Crashed, Pending, Running

from daskenv_lab.flows.prefect3 import announce, tell_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefect.client.schemas.objects import State, TaskRun

SLICE = 0.2
"""Seconds after which a waiting thread looks up, so that it can be interrupted."""


class DaskFuture(PrefectTaskRunFuture[Any]):
    """The future of one task run on a Dask cluster.

    A task run that Dask could not finish (its worker died, say) ends Crashed, and the Prefect
    API is told.
    """

    def __init__(
        self, *, task_run: TaskRun, dask_future: distributed.Future, upstream: list[DaskFuture]
    ) -> None:
        super().__init__(task_run.id)
        self.task_run = task_run
        self.started = False
        self.cancelled = False
        self._dask_future = dask_future
        self._upstream = upstream
        self._context = contextvars.copy_context()
        self._over = threading.Event()
        self._settling = threading.RLock()
        dask_future.add_done_callback(self._on_dask_done)

    @property
    def wrapped_future(self) -> distributed.Future:
        """The future of Dask that holds the outcome."""
        return self._dask_future

    @property
    def done(self) -> bool:
        """Whether Dask is done with the task, in whatever way."""
        return self._over.is_set()

    @property
    def state(self) -> State[Any]:
        """The state of the task run; of one that goes on, what this process knows of it."""
        if self._final_state is None and (not self.done or self._lost):
            return Running() if self.started else Pending()
        return self._settle()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the task run ended, or the time ran out."""
        if self._final_state is None and self._await(timeout):
            self._settle()

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """Wait for the task run and give its result, or raise what it raised.

        Raises
        ------
        TimeoutError
            The task run goes on after `timeout` seconds.
        """
        if self._final_state is None and not self._await(timeout):
            raise TimeoutError(
                f"Task run {self.task_run_id} did not complete within {timeout} seconds"
            )
        state: Any = self._settle()
        return state.result(raise_on_failure=raise_on_failure, _sync=True)

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call `fn` with this future when the task run ended."""
        if self._final_state is not None:
            fn(self)
            return
        if not self.done:
            # Who asks this inside a task is about to wait, as Prefect's as_completed() does, and
            # in a way that we cannot see the end of.
            leave_the_slot()
        self._dask_future.add_done_callback(lambda _: fn(self))

    def wait_until_done(self) -> None:
        """Wait until Dask is done with the task, and fetch nothing."""
        self._await(None)

    def settle_fault(self) -> None:
        """Tell the API if Dask could not finish the task; fetch no result."""
        if self._final_state is None and self._dask_future.status not in ("finished", "lost"):
            self._settle()

    def cancel(self) -> None:
        """End a task run that was never started as Cancelled, and tell the API.

        One that has started is stopped, and the API told, by its worker.
        """
        with self._settling:
            if self._final_state is not None:
                return
            self.cancelled = True
            message = "the flow run ended before this task run did"
            ending: Any = Crashed if self.started else Cancelled
            self._end(ending(message=message), tell=not self.started)

    def _on_dask_done(self, _: distributed.Future) -> None:
        self._over.set()

    def _await(self, timeout: float | None) -> bool:
        if self.done:
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        with out_of_the_slot():
            while deadline is None or time.monotonic() < deadline:
                left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
                if self._over.wait(max(left, 0)):
                    return True
        return self.done

    @property
    def _lost(self) -> bool:
        """Whether the outcome was lost with its worker, so that Dask has the task run again."""
        return bool(self._dask_future.status == "lost")

    def _settle(self) -> State[Any]:
        with self._settling:
            if self._final_state is None:
                while self._lost:
                    with out_of_the_slot(), contextlib.suppress(TimeoutError):
                        self._dask_future.exception(SLICE)
                status = self._dask_future.status
                if status == "finished":
                    self._take_outcome()
                else:
                    self._take_fault(status)
            return cast("State[Any]", self._final_state)

    def _take_outcome(self) -> None:
        try:
            outcome = self._dask_future.result()
        except Exception as error:  # noqa: BLE001 - a lost result has many faces
            self._end(Crashed(message=_sentence(error)), tell=True)
            return
        try:
            self._final_state = cloudpickle.loads(outcome["state"])
        except Exception as error:  # noqa: BLE001 - unpickling runs any code
            what = f"{type(error).__name__}: {error}"
            message = f"the result of {self.task_run.name!r} cannot be unpickled here ({what})"
            self._end(Crashed(message=message), tell=False)

    def _take_fault(self, status: str) -> None:
        unready = [f for f in self._upstream if not f.state.is_completed()]
        if unready:
            message = (
                f"Upstream task run '{unready[0].task_run_id}' did not reach a 'COMPLETED' state."
            )
            self._end(Pending(name="NotReady", message=message), tell=True)
        elif status == "error":
            self._end(Crashed(message=_sentence(self._dask_future.exception())), tell=True)
        else:
            message = f"the cluster let go of the task ({status}): its scheduler or client is gone"
            self._end(Crashed(message=message), tell=True)

    def _end(self, state: State[Any], *, tell: bool) -> None:
        if tell:
            self._context.copy().run(self._tell, state)
        else:
            state.state_details.task_run_id = self.task_run.id
            state.state_details.flow_run_id = self.task_run.flow_run_id
        self._final_state = state
        self._over.set()

    def _tell(self, state: State[Any]) -> None:
        if not self.started:
            announce(self.task_run)
        tell_state(self.task_run, state)


def _sentence(error: BaseException | None) -> str:
    if isinstance(error, KilledWorker):
        return (
            f"the worker died while it ran this task, {error.allowed_failures + 1} times over "
            f"(last at {error.last_worker.address}); look at its memory and log"
        )
    return f"Dask could not finish the task: {type(error).__name__}: {error}"


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
