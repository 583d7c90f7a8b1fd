"""What client, workers and scheduler saw of a flow run, put together for its report."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from daskenv_lab.report import ClientWait, TaskRunReport, WorkerReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from daskenv_lab.flows.ends import Waited
    from daskenv_lab.flows.events import TaskEvent


def task_runs_of(
    events: Sequence[TaskEvent],
    submitted: Mapping[str, float],
    batches: Mapping[str, str],
    calls: Mapping[str, Mapping[str, Any]],
    began: float,
) -> tuple[TaskRunReport, ...]:
    """Describe task runs, each by its last event and by what the scheduler noted of its Dask task.

    Parameters
    ----------
    events : sequence of TaskEvent
        The last event of each task run, in the order in which they were submitted.
    submitted, batches : mapping
        Seconds at which the client sent it, and the id of the first of its batch, by id.
    calls : mapping
        What the scheduler noted, by the id of the first task run in each Dask task.
    began : float
        Seconds at which the scheduler began to note.
    """
    places = {event.id: place for place, event in enumerate(events)}

    def described(event: TaskEvent) -> TaskRunReport:
        first = batches.get(event.id, event.id)
        # Of a batch, the first has the seconds and bytes of all.
        call = calls.get(event.id, {})
        needs = calls.get(first, {}).get("needs", ())
        released = calls.get(first, {}).get("released")
        return TaskRunReport(
            id=event.id,
            name=event.name,
            task=event.task,
            state=event.state,
            start=event.start,
            duration=event.duration,
            worker=event.worker,
            submitted=submitted.get(event.id),
            needs=tuple(places[need] for need in needs if need in places),
            batch=places.get(first) if event.id in batches else None,
            compute=call.get("compute"),
            transfer=call.get("transfer"),
            input_bytes=call.get("input_bytes"),
            output_bytes=call.get("output_bytes"),
            cpu=event.cpu,
            memory=event.memory,
            released=None if released is None else began + released,
            attempts=call.get("attempts", 1),
        )

    return tuple(described(event) for event in events)


def waits_of(
    waits: Iterable[Waited], task_runs: Sequence[TaskRunReport], began: float
) -> tuple[ClientWait, ...]:
    """Describe the flow's waiting; `began` is when the flow run did, by `time.monotonic`."""
    places = {task_run.id: place for place, task_run in enumerate(task_runs)}
    found = []
    for wait in waits:
        known = (places.get(str(which)) for which in wait.ids)
        if waited_for := tuple(dict.fromkeys(place for place in known if place is not None)):
            since, until = round(wait.began - began, 6), round(wait.ended - began, 6)
            found.append(ClientWait(began=since, ended=until, task_runs=waited_for))
    return tuple(found)


def workers_of(
    workers: Iterable[Mapping[str, Any]], began: float, asked: Sequence[tuple[float, int]]
) -> tuple[WorkerReport, ...]:
    """Describe the workers that were there.

    Parameters
    ----------
    workers : iterable of mapping
        What the scheduler noted.
    began : float
        Seconds at which the scheduler began to note.
    asked : sequence of pairs
        Seconds, and the number of workers that was asked for from then on.
    """
    found = []
    for there, worker in enumerate(workers):
        left = worker.get("left")
        joined = worker["joined"] and began + worker["joined"]
        # The first moment at which as many were asked for as there were with it.
        since = next((at for at, number in asked if number > there and at > 0), None)
        startup = joined - since if joined and since is not None and since <= joined else None
        moments = {"joined": joined, "left": None if left is None else began + left}
        found.append(WorkerReport(**{**worker, **moments, "startup": startup}))
    return tuple(found)


def measures_of(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Give a flow's parameters as numbers: those that are, and the lengths of those that have one.

    Examples
    --------
    >>> measures_of({"rate": 0.5, "x": [1, 2, 3], "name": "ada"})
    {'rate': 0.5, 'len(x)': 3.0, 'len(name)': 3.0}
    """
    found: dict[str, float] = {}
    for name, value in parameters.items():
        with contextlib.suppress(Exception):  # any object may be a parameter
            if isinstance(value, int | float):
                found[name] = float(value)
            elif isinstance(value, Sized):
                found[f"len({name})"] = float(len(value))
    return {name: number for name, number in found.items() if math.isfinite(number)}
