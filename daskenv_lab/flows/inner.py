"""Task runs that tasks submit or call: what the kernel tells the API of those that are lost.

The kernel holds no future of theirs, and a worker that is killed cannot tell how they ended.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect.states import Crashed

from daskenv_lab.flows.nested import read
from daskenv_lab.flows.prefect3 import in_flow_run, tell_run, tell_state
from daskenv_lab.flows.squeezed import unsqueezed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from daskenv_lab.flows.events import TaskEvent
    from daskenv_lab.flows.nested import Nested

_DIED = "the worker at {} died while it ran this task"


class _LastState(NamedTuple):
    """The last state of one that a task called, as its worker has told of it."""

    written: bytes
    worker: str
    since: float
    """When it came into this state, in epoch seconds of its worker's clock."""


class _Inner:
    """One task run, as its worker has told of it."""

    __slots__ = ("ended", "start", "state", "task_run", "worker")

    def __init__(self, task_run: bytes, worker: str, start: datetime | None) -> None:
        self.task_run = task_run
        self.worker = worker
        self.start = start
        self.state = b""
        """The state in which it ended, squeezed as the task run is; empty while it goes on."""

        self.ended = 0.0
        """When it did, in epoch seconds of its worker's clock."""


class InnerRuns:
    """Takes note of the task runs that a flow run's tasks submit or call."""

    def __init__(self) -> None:
        self._runs: dict[str, _Inner] = {}
        self._nested: dict[str, _LastState] = {}

    @property
    def workers(self) -> set[str]:
        """The workers on which they ran."""
        # News may still come in, in another thread.
        runs: list[_Inner | _LastState] = [*self._runs.values(), *self._nested.values()]
        return {run.worker for run in runs}

    def note(self, event: TaskEvent) -> None:
        """Take note of a start or an end; of other task runs nothing is noted."""
        if event.written is None or event.worker is None:
            return
        if event.what == "started":
            self._runs[event.id] = _Inner(event.written, event.worker, event.start)
        elif (run := self._runs.get(event.id)) is not None and event.start is not None:
            run.state = event.written
            run.ended = event.start.timestamp() + (event.duration or 0)

    def note_nested(self, event: TaskEvent) -> None:
        """Take note of a state of a task run that was not sent to Dask."""
        if event.written and event.worker and event.start:
            self._nested[event.id] = _LastState(
                event.written, event.worker, event.start.timestamp()
            )

    def tell_lost(self, told_until: Mapping[str, float], alive: set[str], sample: bytes) -> None:
        """Tell the API how those ended whose workers may not have told it.

        It is called in the context of the flow run, when that is over.

        Parameters
        ----------
        told_until : mapping
            Up to when each worker has told the API all, in epoch seconds of its clock.
        alive : set of str
            The workers that tell the API by themselves of what goes on there.
        sample : bytes
            What task runs and states were squeezed by.
        """
        for run in list(self._runs.values()):
            state: Any = None
            if run.state and run.ended >= told_until.get(run.worker, 0):
                state = pickle.loads(unsqueezed(run.state, sample))  # noqa: S301 - a worker's own
            elif not run.state and run.worker not in alive:
                state = Crashed(message=_DIED.format(run.worker))
            if state is not None:
                task_run = pickle.loads(unsqueezed(run.task_run, sample))  # noqa: S301 - the same
                tell_run(task_run, state, run.start)
        by_flow_run: dict[UUID, list[tuple[Nested, str]]] = {}
        for last in list(self._nested.values()):
            if last.since >= told_until.get(last.worker, 0) or last.worker not in alive:
                nested = read(last.written)
                by_flow_run.setdefault(nested.flow_run_id, []).append((nested, last.worker))
        for flow_run_id, told in by_flow_run.items():
            with in_flow_run(flow_run_id):
                for (_, task_run, state), worker in told:
                    tell_state(task_run, state)
                    if worker not in alive and not state.is_final():
                        tell_state(task_run, Crashed(message=_DIED.format(worker)))
