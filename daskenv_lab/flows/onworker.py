"""What runs on workers: a room for each flow run, in which its task calls run.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import abc
import asyncio
import sys
import threading
import time
import uuid
import zlib
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
import distributed
import distributed.worker
from prefect import Flow, Task
from prefect.states import Crashed
from prefect.task_runners import TaskRunner
from tornado.ioloop import PeriodicCallback

from daskenv_lab.flows.future import DaskFuture
from daskenv_lab.flows.ingraph import ROOMS, run_in_room
from daskenv_lab.flows.interrupt import Call, Stopped
from daskenv_lab.flows.prefect3 import (
    OpenContext,
    announce,
    current_flow,
    current_flow_run,
    current_tags,
    events_pending,
    new_task_run,
    run_async_task_call,
    run_task_call,
    send_events_to_this_api,
    settings_in_force,
    task_run_in_flow_run,
    tell_state,
    written_assets,
    written_context,
)
from daskenv_lab.flows.shipping import pack, pack_call, pack_failure, travels, unpack_call
from daskenv_lab.flows.trust import trust_own_cluster

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.client.schemas.objects import State, TaskRun

TOPIC = "daskenv-task-runs"
"""The topic of Dask's events on which workers tell of starts and ends."""

LARGE = 64 * 1024
"""Bytes from which a room travels as a result of Dask's, and not with each call."""

ROOMS_KEPT = 8
"""Rooms that a worker keeps open; those of kernels that died are closed beyond that."""

EVENTS_OUT = 3.0
"""Seconds that a worker waits, at the end of a flow run, for its events to go out."""

LOOK = 500
"""Milliseconds between looks for calls that Dask has cancelled."""


class Room:
    """What a worker keeps of one flow run: its context, opened once, and the calls that run.

    A look every half second finds the calls that Dask has cancelled, because the flow ended or
    its kernel died: their threads are interrupted, and their task runs end Crashed.
    """

    def __init__(self, room_id: str, run_id: str, written: Mapping[str, Any]) -> None:
        self.room_id = room_id
        self.run_id = run_id
        self.written = written
        self.packed = b""
        self._opening = threading.Lock()
        self._context: OpenContext | None = None
        self._calls: dict[str, Call] = {}
        self._looks: PeriodicCallback | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Room, (self.room_id, self.run_id, self.written)

    @property
    def busy(self) -> bool:
        """Whether calls run in it."""
        return bool(self._calls)

    def run(self, call: bytes, upstream: list[Any], packed: bytes) -> dict[str, Any]:
        """Run one task call, and give its state pickled.

        It never raises for what the user's code does.
        """
        worker = distributed.get_worker()
        self.packed = packed
        head, body = cloudpickle.loads(call)
        return self._opened(worker).run(self._run, worker, cloudpickle.loads(head), body, upstream)

    def close(self) -> None:
        """Close the context once no call runs in it."""
        with self._opening:
            if self._looks is not None:
                self._looks.stop()
            if self._context is not None:
                self._context.close()
            self._context = self._looks = None

    def _opened(self, worker: Any) -> OpenContext:
        with self._opening:
            if self._context is None:
                self._context = OpenContext(self.written)
                trust_own_cluster(worker)
                worker.loop.add_callback(self._start_looking, worker)
            context = self._context
        for room in list(worker.__dict__[ROOMS].values())[:-ROOMS_KEPT]:
            if not room.busy and room is not self:
                worker.__dict__[ROOMS].pop(room.room_id, None)
                room.close()
        return context

    def _start_looking(self, worker: Any) -> None:
        self._looks = PeriodicCallback(lambda: self._look(worker), LOOK)
        self._looks.start()

    def _look(self, worker: Any) -> None:
        for call in list(self._calls.values()):
            known = worker.state.tasks.get(call.key)
            if not call.stopped and (known is None or known.state == "cancelled"):
                threading.Thread(target=self._stop, args=(call,), daemon=True).start()

    def _stop(self, call: Call) -> None:
        call.stop()
        context = self._context
        # Code in C is not interrupted, so the API is told now; the engine tells it again.
        if context is not None and call.stopped:
            time.sleep(1)
            if str(call.task_run.id) in self._calls:
                state: State[Any] = Crashed(message=str(Stopped()))
                context.run(tell_state, call.task_run.model_copy(), state)

    def _run(
        self, worker: Any, head: dict[str, Any], body: bytes, upstream: list[Any]
    ) -> dict[str, Any]:
        task_run: TaskRun = head["task_run"]
        about = {
            "run": self.run_id,
            "id": str(task_run.id),
            "name": task_run.name,
            "task": head["task"],
            "worker": worker.address,
            "start": time.time(),
        }
        worker.log_event(TOPIC, {**about, "what": "started"})
        send_events_to_this_api()
        call = self._calls[about["id"]] = Call(distributed.worker.thread_state.key, task_run)
        try:
            try:
                state = self._state_of(call, head, body, upstream)
                packed = self._pack_state(task_run, state)
            finally:
                call.over()
        except Stopped as stopped:
            call.over()
            packed, _ = pack(self._crashed(task_run, str(stopped)))
        finally:
            self._calls.pop(about["id"], None)
        seconds = time.time() - about["start"]
        ended = {**about, "name": task_run.name, "state": task_run.state_name, "seconds": seconds}
        worker.log_event(TOPIC, {**ended, "what": "ended"})
        return {"state": packed}

    def _state_of(
        self, call: Call, head: dict[str, Any], body: bytes, upstream: list[Any]
    ) -> State[Any]:
        task_run = call.task_run
        runner = WorkerRunner(self)
        with runner, task_run_in_flow_run(runner, head["tags"], head["assets"]):
            announce(task_run)
            try:
                task, parameters, wait_for = unpack_call(body, upstream)
            except Exception as error:  # noqa: BLE001 - unpickling runs any code
                return self._crashed(
                    task_run,
                    f"the task or its arguments cannot be unpickled on this worker "
                    f"({type(error).__name__}: {error}); install what it needs there",
                )
            try:
                if task.isasync:
                    state = run_async_task_call(
                        task, task_run, parameters, wait_for, call.run_in_loop
                    )
                else:
                    state = run_task_call(task, task_run, parameters, wait_for)
            except Stopped:
                raise
            except BaseException as error:  # noqa: BLE001 - sys.exit() in a task ends here
                if task_run.state is not None and task_run.state.is_final():
                    state = task_run.state
                else:
                    state = self._crashed(task_run, f"{type(error).__name__}: {error}")
            runner.ok = state.is_completed()
            return state

    def _crashed(self, task_run: TaskRun, message: str) -> State[Any]:
        state: State[Any] = Crashed(message=message)
        if task_run.state is None or not task_run.state.is_crashed():
            tell_state(task_run, state)
        return state

    def _pack_state(self, task_run: TaskRun, state: State[Any]) -> bytes:
        try:
            if isinstance(error := getattr(state.data, "result", state.data), BaseException):
                return pack_failure(state, error)
            return pack(state)[0]
        except Exception as error:  # noqa: BLE001 - pickling runs any code
            result = getattr(state.data, "result", state.data)
            return pack(
                self._crashed(
                    task_run,
                    f"the result, a {type(result).__name__}, cannot be pickled to leave its "
                    f"worker ({error}); return plain values, or write it to a file",
                )
            )[0]


class DaskRunner(TaskRunner[DaskFuture]):
    """A task runner that sends task calls to a Dask cluster and looks after them."""

    def __init__(self) -> None:
        super().__init__()
        self.run_id = uuid.uuid4().hex
        self._futures: dict[str, DaskFuture] = {}
        self._rooms: list[tuple[object, str, Any]] = []
        self._flow_run: Any = None

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Any = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> DaskFuture:
        """Send one call of a task to the cluster."""
        if not self._started:
            raise RuntimeError("The task runner must be started before submitting work.")
        client = self._reach()
        self._flow_run = self._flow_run or current_flow_run()
        room_id, packed = self._room(client)
        body, upstream = pack_call(task, parameters, wait_for, client)
        task_run = new_task_run(
            task,
            parameters=parameters,
            wait_for=wait_for,
            dependencies=dependencies or {},
        )
        head = {
            "task_run": task_run,
            "task": task.name,
            "tags": current_tags(),
            "assets": written_assets(task, task_run.id, task_run.task_inputs),
        }
        dask_future = client.submit(
            run_in_room,
            room_id,
            packed,
            cloudpickle.dumps((cloudpickle.dumps(head), body)),
            [f.wrapped_future for f in upstream],
            key=f"{task.name or 'task'}-{task_run.id}",
            pure=False,
        )
        future = DaskFuture(task_run=task_run, dask_future=dask_future, upstream=upstream)
        self._futures[str(task_run.id)] = future
        return future

    def finish(self, *, ok: bool) -> None:
        """Wait for the calls that nobody awaited, or after a failure cancel what goes on."""
        pending = [f for f in self._futures.values() if not f.done]
        if ok:
            for future in self._futures.values():
                future.wait_until_done()
                future.settle_fault()
            return
        for future in pending:
            future.cancelled = True
        if pending:
            self._reach().cancel([f.wrapped_future for f in pending], force=True)
        for future in self._futures.values():
            if future.cancelled:
                future.cancel()
            else:
                future.settle_fault()

    @property
    def flow_completed(self) -> bool:
        """Whether the flow run, of which this is the task runner, has completed."""
        state = self._flow_run.state if self._flow_run else None
        return state is None or state.is_completed()

    @abc.abstractmethod
    def _reach(self) -> distributed.Client:
        """Give the client of the cluster that the calls go to."""

    def _room(self, client: distributed.Client) -> tuple[str, Any]:
        settings = settings_in_force()
        for before, room_id, packed in self._rooms:
            if before is settings:
                return room_id, packed
        room_id = f"daskenv-room-{uuid.uuid4().hex}"
        room = Room(room_id, self.run_id, written_room())
        packed = _ship(client, room_id, zlib.compress(pack(room)[0]))
        self._rooms.append((settings, room_id, packed))
        return room_id, packed


class WorkerRunner(DaskRunner):
    """The task runner inside tasks, and of flows that run inside tasks, on a worker."""

    def __init__(self, room: Room | None = None) -> None:
        super().__init__()
        self.ok = False
        self._own_room = room

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
            super().__exit__(exc_type, exc_value, trace)

    def _reach(self) -> distributed.Client:
        return distributed.get_client()

    def _room(self, client: distributed.Client) -> tuple[str, Any]:
        if self._own_room is None:
            return super()._room(client)
        room = self._own_room
        return room.room_id, _ship(client, room.room_id, room.packed)


def _travelled() -> None:
    raise RuntimeError("a flow cannot be called from the context that travelled to a worker")


def written_room() -> dict[str, Any]:
    """Write down the current flow run's context, without the flow's code and hooks.

    What the flow's function mentions stays at home, as do the runner and its credentials.
    """
    flow = current_flow()
    stand_in = Flow(
        fn=_travelled,
        name=flow.name if flow else "none",
        version=flow.version if flow else None,
        task_runner=cast("Any", WorkerRunner()),
        validate_parameters=False,
    )
    written = written_context(stand_in)
    if parameters := written["flow_run_context"].get("parameters"):
        kept = {name: value for name, value in parameters.items() if travels(value)}
        written["flow_run_context"]["parameters"] = kept
    return written


def _ship(client: distributed.Client, room_id: str, packed: bytes) -> Any:
    return packed if len(packed) < LARGE else client.submit(bytes, packed, key=room_id, pure=False)


async def leave_rooms(dask_worker: Any, run_id: str) -> None:
    """Close a flow run's rooms on this worker once its last events are out."""
    rooms = dask_worker.__dict__.get(ROOMS, {})
    deadline = time.monotonic() + EVENTS_OUT
    while events_pending() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    for room in [r for r in rooms.values() if r.run_id == run_id and not r.busy]:
        rooms.pop(room.room_id, None)
        room.close()


def bytes_sent(dask_worker: Any) -> int:
    """Count the bytes of results that this worker has sent since it started."""
    return int(dask_worker.transfer_outgoing_bytes_total)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
