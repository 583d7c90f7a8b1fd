"""The task runner inside tasks on workers, and of flows that run inside tasks.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

import cloudpickle
import distributed

from daskenv_lab.flows import parcels
from daskenv_lab.flows.nested import current_room
from daskenv_lab.flows.room import Room, route_here
from daskenv_lab.flows.runner import DaskRunner
from daskenv_lab.flows.shipping import written_room
from daskenv_lab.flows.squeezed import Alike
from daskenv_lab.flows.sync.onworker import Code, current_code

if TYPE_CHECKING:
    from collections.abc import Mapping


class WorkerRunner(DaskRunner):
    """The task runner inside tasks, and of flows that run inside tasks, on a worker."""

    _inner = True

    def __init__(self, room: Room | None = None) -> None:
        super().__init__()
        self.ok = False
        self._own_room = room
        if room is not None:
            self._task_runs, self._kept = Alike(room.sample), room.kept

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerRunner, ()

    def duplicate(self) -> WorkerRunner:
        """Make another that belongs to no task run yet."""
        return WorkerRunner()

    def __exit__(self, exc_type: Any, exc_value: Any, trace: Any) -> None:
        try:
            # Of a flow that runs inside a task, the flow run tells; of a task, its room.
            ended_well = self.ok if self._own_room else self.flow_completed
            self.finish(ok=ended_well and exc_type is None)
        finally:
            self._let_parcels_go()
            super().__exit__(exc_type, exc_value, trace)

    def _reach(self) -> distributed.Client:
        return distributed.get_client()

    def _engine(self, client: distributed.Client) -> str:
        del client
        room = self._own_room
        route = room.route if room else route_here(distributed.get_worker())
        return str(route["engine"])

    def _modules(self, client: distributed.Client) -> Code:
        del client
        return current_code()

    def _written_room(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        return written_room(), route_here(distributed.get_worker())

    def _room(self) -> str:
        return super()._room() if self._own_room is None else self._own_room.room_id

    @property
    def _parcels_of(self) -> str:
        return self.run_id if self._own_room is None else self._own_room.run_id

    @property
    def _root(self) -> str:
        room = self._own_room or current_room(distributed.get_worker())
        return self.run_id if room is None else room.root


def open_room(room_id: str) -> Room:
    """Make a room on a worker, from what `DaskRunner` has written down."""
    packed = parcels.fetch(distributed.get_worker(), room_id)
    told: tuple[Any, ...] = pickle.loads(packed)  # noqa: S301 - the client's own
    run_id, root, written, route, modules, sample, heard = told
    return Room(room_id, run_id, root, written, route, WorkerRunner, Code(*modules), sample, heard)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
