"""Task runs that run inside task runs: the kernel hears of each of their states too.

A task may call tasks, or flows that have tasks of their own. The kernel sent none of these, and a
worker that is killed cannot tell the API how they ended.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextvars
import pickle
import sys
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.events.schemas.events import Event

from daskenv_lab.flows.ingraph import ROOMS
from daskenv_lab.flows.names import versioned

if TYPE_CHECKING:
    from uuid import UUID

    from daskenv_lab.flows.room import Room

CURRENT = versioned("daskenv_current_room")
"""The attribute of a Dask worker under which it keeps the context variable of the same name."""

NESTED = "nested"
"""What happens, as the client is told it."""

_TASK_RUN = "prefect.task-run."


class Nested(NamedTuple):
    """A state of a task run inside a task run."""

    flow_run_id: UUID
    task_run: TaskRun
    state: State[Any]


def enter_room(worker: Any, room: Room) -> None:
    """Note that what is called from here on, in this context, belongs to a call in this room."""
    worker.__dict__.setdefault(CURRENT, contextvars.ContextVar(CURRENT)).set(room)


def current_room(worker: Any) -> Room | None:
    """Give the room in which a call runs that has led here; None if there is none."""
    variable: contextvars.ContextVar[Room] | None = worker.__dict__.get(CURRENT)
    return None if variable is None else variable.get(None)


def tell_client(worker: Any, event: Event) -> None:
    """Tell the client of an event about a task run inside a call, of which it knows nothing."""
    room, flow_run = current_room(worker), FlowRunContext.get()
    about = event.resource.id.removeprefix(_TASK_RUN)
    if room is None or flow_run is None or flow_run.flow_run is None:
        return
    if about == event.resource.id or "validated_state" not in event.payload:
        return
    rooms: dict[str, Room] = worker.__dict__.get(ROOMS, {})
    if any(one.has(about) and not one.nested for one in list(rooms.values())):
        return
    written = pickle.dumps((flow_run.flow_run.id, event.model_dump_json()))
    told = {
        "what": NESTED,
        "id": about,
        "name": event.resource.name or "",
        "task": "",
        "start": event.occurred.timestamp(),
        "written": zlib.compress(written, 1),
    }
    room.tell(worker, told)


def read(written: bytes) -> Nested:
    """Read what `tell_client` has written."""
    flow_run_id, packed = pickle.loads(zlib.decompress(written))  # noqa: S301 - a worker's own
    event = Event.model_validate_json(packed)
    about = {"id": event.resource.id.removeprefix(_TASK_RUN), "flow_run_id": flow_run_id}
    task_run = TaskRun.model_validate({**event.payload["task_run"], **about})
    told = {"id": event.id, "timestamp": event.occurred, **event.payload["validated_state"]}
    return Nested(flow_run_id, task_run, State.model_validate(told))


cloudpickle.register_pickle_by_value(sys.modules[__name__])
