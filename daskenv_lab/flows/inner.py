"""Task runs that tasks submit on workers: what the kernel tells the API of those that are lost.

The kernel holds no future of theirs, and a worker that is killed cannot tell how they ended.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from prefect.states import Crashed

from daskenv_lab.flows.prefect3 import tell_run
from daskenv_lab.flows.squeezed import unsqueezed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from daskenv_lab.flows.events import TaskEvent


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
    """Takes note of the task runs that a flow run's tasks submit."""

    def __init__(self) -> None:
        self._runs: dict[str, _Inner] = {}

    def note(self, event: TaskEvent) -> None:
        """Take note of a start or an end; of other task runs nothing is noted."""
        if event.written is None or event.worker is None:
            return
        if event.what == "started":
            self._runs[event.id] = _Inner(event.written, event.worker, event.start)
        elif (run := self._runs.get(event.id)) is not None and event.start is not None:
            run.state = event.written
            run.ended = event.start.timestamp() + (event.duration or 0)

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
        # News may still come in, in another thread.
        for run in list(self._runs.values()):
            state: Any = None
            if run.state and run.ended >= told_until.get(run.worker, 0):
                state = pickle.loads(unsqueezed(run.state, sample))  # noqa: S301 - a worker's own
            elif not run.state and run.worker not in alive:
                state = Crashed(message=f"the worker at {run.worker} died while it ran this task")
            if state is not None:
                task_run = pickle.loads(unsqueezed(run.task_run, sample))  # noqa: S301 - the same
                tell_run(task_run, state, run.start)
