"""`DaskFuture`: what `task.submit()` gives, in the kernel and inside tasks on workers.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import sys
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
from distributed.scheduler import KilledWorker
from prefect.futures import PrefectTaskRunFuture
from prefect.states import Cancelled, Crashed, Pending, Running

from daskenv_lab.flows.outcome import outcome_of, state_of
from daskenv_lab.flows.prefect3 import announce, tell_run, tell_state
from daskenv_lab.flows.slot import leave_the_slot, out_of_the_slot
from daskenv_lab.flows.squeezed import unsqueezed

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

    import distributed
    from prefect.client.schemas.objects import State, TaskRun

    from daskenv_lab.flows.ends import Ends
    from daskenv_lab.flows.outcome import Outcome
    from daskenv_lab.flows.squeezed import Alike, Squeezed

_log = logging.getLogger(__name__)

SLICE = 0.2
"""Seconds after which a waiting thread looks up, so that it can be interrupted."""


class DaskFuture(PrefectTaskRunFuture[Any]):
    """The future of one task run on a Dask cluster.

    A task run that Dask could not finish (its worker died, say) ends Crashed, and the Prefect
    API is told. It keeps little, as a flow run may have many: about 1 kB.

    Parameters
    ----------
    task_run_id : UUID
        The task run.
    name, task : str
        The task run's name when it was sent, and the task's.
    task_run : Squeezed
        The task run in its first state, pickled.
    dask_future : distributed.Future
        What holds the outcomes of one or several task runs.
    place : int
        Which of these outcomes is this task run's.
    upstream : list of DaskFuture
        The task runs whose results it takes.
    ended : Ends
        Notified when any task run of the same flow run has ended.
    states : Alike
        Squeezes the states in which task runs of the same flow run end.
    context : contextvars.Context
        That of the flow, in which the API is told of a fault.
    """

    def __init__(
        self,
        task_run_id: UUID,
        *,
        name: str,
        task: str,
        task_run: Squeezed,
        dask_future: distributed.Future,
        place: int,
        upstream: list[DaskFuture],
        ended: Ends,
        states: Alike,
        context: contextvars.Context,
    ) -> None:
        super().__init__(task_run_id)
        self.name = name
        self.task = task
        self.started = False
        self.told = False
        self.cancelled = False
        self.place = place
        self.told_state: bytes | None = None
        """The state in which it ended, as its worker has told it: pickled and squeezed."""

        self.worker: str | None = None
        self.start: datetime | None = None
        self.end: float | None = None
        """When its worker was done with it, in epoch seconds of the worker's clock."""

        self._written = task_run
        self._dask_future = dask_future
        self._upstream = upstream
        self.context = context
        self._ended = ended
        self._states = states
        self._outcome: tuple[bool, Squeezed, Any] | None = None
        self._over = False
        self.unheard = False
        """Whether a worker has finished it, and how was lost before this process heard of it."""

        self._finished = False
        self._told_here = False
        """Whether this process has told the API how it ended."""

        self._callbacks: list[Callable[[Any], None]] = []
        self._settling = threading.RLock()

    @property
    def _final_state(self) -> State[Any] | None:
        """The state in which the task run ended, where Prefect looks for it."""
        if self._outcome is None:
            return None
        completed, written, data = self._outcome
        return state_of((completed, written.plain(), data))

    @_final_state.setter
    def _final_state(self, state: State[Any] | None) -> None:
        if state is not None:
            self._keep(outcome_of(state))

    def _keep(self, outcome: Outcome) -> None:
        completed, written, data = outcome
        self._outcome = completed, self._states.squeeze(written), data

    @property
    def wrapped_future(self) -> distributed.Future:
        """The future of Dask that holds the outcome."""
        return self._dask_future

    @property
    def _task_run(self) -> TaskRun:
        """The task run, in the state in which it was sent."""
        return cast("TaskRun", pickle.loads(self._written.plain()))  # noqa: S301 - our own

    @property
    def done(self) -> bool:
        """Whether Dask is done with the task, in whatever way."""
        return self._over

    @property
    def state(self) -> State[Any]:
        """The state of the task run; of one that goes on, what this process knows of it."""
        if self._outcome is None and (not self.done or self._lost):
            return Running() if self.started else Pending()
        return self._settle()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the task run ended, or the time ran out; its result stays on the cluster."""
        if self._outcome is None and self._await(timeout):
            self.settle_fault()

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """Wait for the task run and give its result, or raise what it raised.

        Raises
        ------
        TimeoutError
            The task run goes on after `timeout` seconds.
        """
        if self._outcome is None and not self._await(timeout):
            raise TimeoutError(
                f"Task run {self.task_run_id} did not complete within {timeout} seconds"
            )
        if self._outcome is not None and self._outcome[0]:
            # Prefect would do the same in another thread, which takes far longer.
            return self._outcome[2]
        state: Any = self._settle()
        return state.result(raise_on_failure=raise_on_failure, _sync=True)

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call `fn` with this future when the task run ended."""
        if not self.done:
            # Who asks this inside a task is about to wait, as Prefect's as_completed() does, and
            # in a way that we cannot see the end of.
            leave_the_slot()
            with self._ended:
                if not self._over:
                    self._callbacks.append(self._ended.calling(fn, self.task_run_id))
                    return
        fn(self)

    def on_dask_done(self) -> None:
        """Note that Dask is done with the task."""
        self._finished = self._finished or self._dask_future.status == "finished"
        with self._ended:
            self._over = True
            callbacks, self._callbacks = self._callbacks, []
            self._ended.notify_all()
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - it is logged, as Prefect's own futures do
                _log.exception("a callback at the end of %s failed", self.name)

    def wait_until_done(self) -> None:
        """Wait until Dask is done with the task and has its outcome; fetch nothing."""
        self._await(None)
        while self._outcome is None and self._lost:
            self._await_again()

    def settle_fault(self) -> None:
        """Tell the API if Dask could not finish the task; fetch no result."""
        if self._outcome is None and self._dask_future.status not in ("finished", "lost"):
            self._settle()

    def give_up(self) -> None:
        """End a task run that a worker has finished and whose outcome cannot be fetched."""
        self.settle_fault()
        with self._settling:
            if self._outcome is None and self._finished:
                self._lose("a worker finished it, but neither told how nor gave its result in time")

    def accept(self, outcomes: list[bytes]) -> None:
        """Take the outcome from what Dask holds, which has been fetched."""
        with self._settling:
            if self._outcome is not None:
                return
            try:
                self._keep(cloudpickle.loads(outcomes[self.place]))
                self._upstream = []
            except Exception as error:  # noqa: BLE001 - unpickling runs any code
                what = f"{type(error).__name__}: {error}"
                message = f"the result of {self.name!r} cannot be unpickled here ({what})"
                self._end(Crashed(message=message), tell=False)

    def cancel(self) -> None:
        """End a task run that was never started as Cancelled, and tell the API.

        One that has started is stopped, and the API told, by its worker.
        """
        with self._settling:
            if self._outcome is not None:
                return
            self.cancelled = True
            message = "the flow run ended before this task run did"
            ending: Any = Crashed if self.started else Cancelled
            self._end(ending(message=message), tell=not self.started)

    def tell_again(self, since: float, sample: bytes) -> None:
        """Tell the API again how the task run ended, if that was after `since`, in epoch seconds.

        Its worker may have been killed before it did, and its result not been fetched.

        Parameters
        ----------
        since : float
            Up to when its worker has told the API all.
        sample : bytes
            What its worker squeezed the state by.
        """
        if self.end is not None and self.end < since:
            # So was its state's time, which takes a tenth of a millisecond to be looked up.
            return
        state = None if self._told_here else self._final_state
        if self.told_state is not None:
            state = pickle.loads(unsqueezed(self.told_state, sample))  # noqa: S301 - its worker's
        if state is not None and state.timestamp.timestamp() >= since:
            self.context.copy().run(tell_run, self._task_run, state, self.start)

    def _await(self, timeout: float | None) -> bool:
        with self._ended.noted([self.task_run_id]):
            return self.done or self._await_end(timeout)

    def _await_end(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        with out_of_the_slot(), self._ended:
            while not self._over and (deadline is None or time.monotonic() < deadline):
                left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
                self._ended.wait(max(left, 0))
        return self.done

    @property
    def runs_again(self) -> bool:
        """Whether Dask has the task run again though its outcome is here."""
        return self._outcome is not None and self._lost

    @property
    def _lost(self) -> bool:
        """Whether the outcome was lost with its worker, so that Dask has the task run again."""
        return bool(self._dask_future.status == "lost")

    def _await_again(self) -> None:
        with out_of_the_slot(), contextlib.suppress(TimeoutError):
            self._dask_future.exception(SLICE)

    def _settle(self) -> State[Any]:
        with self._settling:
            if self._outcome is None:
                while self._lost:
                    self._await_again()
                status = self._dask_future.status
                if status == "finished":
                    self._take_outcome()
                else:
                    self._take_fault(status)
            return cast("State[Any]", self._final_state)

    def _take_outcome(self) -> None:
        try:
            outcomes = self._dask_future.result()
        except Exception as error:  # noqa: BLE001 - a lost result has many faces
            self._end(Crashed(message=_sentence(error)), tell=True)
            return
        self.accept(outcomes)

    def _take_fault(self, status: str) -> None:
        error = self._dask_future.exception() if status == "error" else None
        own = isinstance(error, KilledWorker) and error.task == self._dask_future.key
        # An input that was lost with the same worker had been ready.
        unready = [f for f in self._upstream if not (own or f._lost or f.state.is_completed())]
        if unready:
            message = (
                f"Upstream task run '{unready[0].task_run_id}' did not reach a 'COMPLETED' state."
            )
            self._end(Pending(name="NotReady", message=message), tell=True)
        elif status == "error":
            self._end(Crashed(message=_sentence(error)), tell=True)
        else:
            self._lose(
                f"the cluster let go of the task ({status}): its scheduler or client is gone"
            )

    def _lose(self, message: str) -> None:
        """End it as Crashed here; of one that ended before, the API is told later how."""
        self.unheard = self._finished and self.told_state is None
        state: State[Any] = Crashed(message=message)
        first = self._task_run.state
        if self.unheard and first is not None:
            # What its worker may tell later comes after it, and counts.
            state.timestamp = first.timestamp + timedelta(microseconds=1)
        self._end(state, tell=not self._finished and self.told_state is None)

    def _end(self, state: State[Any], *, tell: bool) -> None:
        if tell:
            self.context.copy().run(self._tell, state)
        else:
            state.state_details.task_run_id = self.task_run_id
            state.state_details.flow_run_id = self._task_run.flow_run_id
        self._final_state = state
        self.on_dask_done()

    def _tell(self, state: State[Any]) -> None:
        self._told_here = True
        task_run = self._task_run
        if self.started:
            tell_run(task_run, state, self.start)
        else:
            # Its worker may have been killed before it did.
            announce(task_run)
            tell_state(task_run, state)


def _sentence(error: BaseException | None) -> str:
    if isinstance(error, KilledWorker):
        return (
            f"the worker died while it ran this task, {error.allowed_failures + 1} times over "
            f"(last at {error.last_worker.address}); look at its memory and log"
        )
    return f"Dask could not finish the task: {type(error).__name__}: {error}"


cloudpickle.register_pickle_by_value(sys.modules[__name__])
