"""What a worker keeps of one flow run: a room, in which the flow run's task calls run.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import cloudpickle
import distributed
import distributed.worker
from prefect.states import Crashed
from tornado.ioloop import PeriodicCallback

from daskenv_lab.flows.console import write_plainly
from daskenv_lab.flows.contexts import OpenContext, surroundings_on
from daskenv_lab.flows.ingraph import ROOMS
from daskenv_lab.flows.interrupt import Call, Stopped
from daskenv_lab.flows.names import versioned
from daskenv_lab.flows.nested import enter_room, tell_client
from daskenv_lab.flows.outcome import outcome_of
from daskenv_lab.flows.parcels import fetch
from daskenv_lab.flows.prefect3 import (
    announce,
    api_url,
    run_async_task_call,
    run_task_call,
    send_events_to_this_api,
    task_run_in_flow_run,
    tell_state,
)
from daskenv_lab.flows.relay.onworker import put_into, settings_on
from daskenv_lab.flows.reporters import reporter_of, told_until_on
from daskenv_lab.flows.reporting import HOLD
from daskenv_lab.flows.shipping import pack_failure, pack_state, unpack_inputs
from daskenv_lab.flows.squeezed import Squeezed, unsqueezed
from daskenv_lab.flows.trust import trust_own_cluster
from daskenv_lab.flows.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

    from daskenv_lab.flows.sync.onworker import Code

TOPIC = versioned("daskenv-task-runs")
"""The topic of Dask's events on which workers tell of starts and ends, and of their own end."""

ROUTES = versioned("daskenv_routes")
"""The attribute of a Dask worker under which it notes how it reaches each API, by its address."""

TASKS_KEPT = 100
"""Tasks whose code a room keeps; a loop may make a new task for each call."""

ROOMS_KEPT = 8
"""Rooms that a worker keeps open; those of kernels that died are closed beyond that."""

LOOK = 500
"""Milliseconds between looks for calls that Dask has cancelled."""

TELL = 0.1
"""Seconds for which starts and ends gather before they are told to the client."""


class Room:
    """What a worker keeps of one flow run: its context, opened once, and the calls that run.

    A look every half second finds the calls that Dask has cancelled, because the flow ended or
    its kernel died: their threads are interrupted, and their task runs end Crashed.

    Parameters
    ----------
    room_id, run_id, root : str
        Its own id, that of the task runner that made it, and that of the kernel's.
    written : bytes
        The flow run's context, as Prefect writes it, pickled and compressed.
    route : mapping
        How the API is reached from here; see `relay.route.Route.written`.
    runner_type : type
        The task runner that each call gets, for the tasks that it submits itself.
    modules : Code
        The user's own modules, which calls import.
    sample : bytes
        A task run like those of the calls, pickled.
    heard : bool
        Whether the client hears of its calls, and can tell the API of them again.
    """

    def __init__(
        self,
        room_id: str,
        run_id: str,
        root: str,
        written: bytes,
        route: Mapping[str, Any],
        runner_type: Any,
        modules: Code,
        sample: bytes,
        heard: bool,
    ) -> None:
        self.room_id = room_id
        self.run_id = run_id
        self.root = root
        self.written = written
        self.route = route
        self.sample = sample
        self.heard = heard
        self.kept: set[str] = set()
        """The keys of what tasks in it have given the scheduler for tasks of their own."""

        self._runner_type = runner_type
        self._modules = modules
        self._opening = threading.Lock()
        self._context: OpenContext | None = None
        self._codes: dict[str, bytes] = {}
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._calls: dict[str, Call] = {}
        self._entered = 0
        self._looks: PeriodicCallback | None = None
        self._told: list[dict[str, Any]] = []
        self._telling = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether calls run in it, or are about to."""
        return self._entered > 0

    @property
    def nested(self) -> bool:
        """Whether it is of a flow that runs inside a task, so that the kernel knows no call."""
        return self.root != self.run_id

    def run(
        self,
        calls: list[bytes],
        upstream: list[list[bytes]],
        task_id: str,
    ) -> list[bytes]:
        """Run calls of one task one after another, and give their states pickled.

        It never raises for what the user's code does.
        """
        worker = distributed.get_worker()
        outcomes: list[bytes] = []
        with self._busy(), self._modules.entered():
            if task_id not in self._tasks and task_id not in self._codes:
                # Not under a lock, which the worker's loop may want while it answers.
                self._codes[task_id] = fetch(worker, task_id)
            context = self._opened(worker)
            for call in calls:
                told, needed = pickle.loads(call)  # noqa: S301 - the client's own
                head = pickle.loads(told)  # noqa: S301
                states = [upstream[which][place] for which, place in needed]
                outcomes.append(context.run(self._run, worker, head, states, task_id))
                if head.get("stopped"):
                    break
        return outcomes

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        with self._telling:
            self._entered += 1
        try:
            yield
        finally:
            with self._telling:
                self._entered -= 1

    def knows(self, task_run_id: str) -> bool:
        """Tell whether a task run is a call that runs here, of which the client hears."""
        return self.heard and self.has(task_run_id)

    def has(self, task_run_id: str) -> bool:
        """Tell whether a task run is a call that runs here."""
        return task_run_id in self._calls

    def close(self) -> None:
        """Close the context once no call runs in it; not on the worker's loop."""
        with self._opening:
            if self._looks is not None:
                self._looks.stop()
            if self._context is not None:
                self._context.close()
            self._context = self._looks = None

    def tell_all(self, worker: Any) -> None:
        """Tell the client now what happened to task runs; on the worker's loop."""
        with self._telling:
            told, self._told = self._told, []
        if told:
            worker.log_event(
                TOPIC,
                {
                    "run": self.root,
                    "worker": worker.address,
                    "told_until": told_until_on(worker),
                    "task_runs": told,
                },
            )

    def _opened(self, worker: Any) -> OpenContext:
        with self._opening:
            if self._context is None:
                reached = settings_on(worker, self.route)
                # It may hold what only the flow run's own modules can unpickle.
                written = cloudpickle.loads(zlib.decompress(self.written))
                if flow := written["flow_run_context"].get("flow"):
                    flow.task_runner = self._runner_type()
                settings = put_into(written["settings_context"], reached)
                self._context = OpenContext(surroundings_on(worker, settings), written)
                write_plainly()
                routes = worker.__dict__.setdefault(ROUTES, {})
                self._context.run(lambda: routes.update({api_url(): self.route}))
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

    def tell(self, worker: Any, told: dict[str, Any]) -> None:
        """Tell the client what happens to a task run, together with what else happens now."""
        with self._telling:
            self._told.append(told)
            first = len(self._told) == 1
        if first:
            # Each message wakes the worker's loop, the scheduler and the client.
            worker.loop.add_callback(worker.loop.call_later, TELL, self.tell_all, worker)

    def _run(self, worker: Any, head: dict[str, Any], upstream: list[bytes], task_id: str) -> bytes:
        written = unsqueezed(head["task_run"], self.sample)
        task_run: TaskRun = pickle.loads(written)  # noqa: S301 - the client's own
        about = {
            "id": str(task_run.id),
            "name": task_run.name,
            "task": head["task"],
            "start": time.time(),
        }
        inner = {"written": head["task_run"]} if head["inner"] else {}
        enter_room(worker, self)
        self._tell_of_call(worker, {**about, **inner, "what": "started"})
        # The client, which carries what is relayed, may leave when the flow run has ended.
        hold = 0 if self.route["relayed"] else HOLD
        reporter_of(
            worker,
            hold,
            self.route.get("workers", 1),
            lambda task_run_id: known_on(worker, task_run_id),
            lambda event: tell_client(worker, event),
        )
        send_events_to_this_api()
        usage = Usage(worker)
        call = self._calls[about["id"]] = Call(distributed.worker.thread_state.key, task_run)
        try:
            try:
                state = self._state_of(call, head, upstream, task_id)
                packed = self._pack_state(task_run, state)
            finally:
                call.over()
        except Stopped as stopped:
            call.over()
            packed = pack_state(self._crashed(task_run, str(stopped)))
        finally:
            self._calls.pop(about["id"], None)
        head["stopped"] = call.stopped
        seconds = time.time() - about["start"]
        ended = {**about, "name": task_run.name, "state": task_run.state_name, "seconds": seconds}
        if task_run.state is not None:
            # Should this worker be killed before it tells the API, the client does.
            ended["written"] = Squeezed(outcome_of(task_run.state)[1], self.sample).small
        self._tell_of_call(worker, {**ended, **usage.taken(), "what": "ended"})
        return packed

    def _tell_of_call(self, worker: Any, told: dict[str, Any]) -> None:
        if not self.nested:
            self.tell(worker, told)

    def _state_of(
        self, call: Call, head: dict[str, Any], upstream: list[bytes], task_id: str
    ) -> State[Any]:
        task_run = call.task_run
        runner = self._runner_type(self)
        with runner, task_run_in_flow_run(runner, head["tags"], head["assets"]):
            first = announce(task_run)
            try:
                task = self._task(task_id)
                parameters, wait_for = unpack_inputs(head["inputs"], upstream)
            except Exception as error:  # noqa: BLE001 - unpickling runs any code
                return self._crashed(
                    task_run,
                    f"the task or its arguments cannot be unpickled on this worker "
                    f"({type(error).__name__}: {error}); install what it needs there",
                )
            try:
                if task.isasync:
                    state = run_async_task_call(
                        task, task_run, parameters, wait_for, first, call.run_in_loop
                    )
                else:
                    state = run_task_call(task, task_run, parameters, wait_for, first)
            except Stopped:
                raise
            except BaseException as error:  # noqa: BLE001 - sys.exit() in a task ends here
                if task_run.state is not None and task_run.state.is_final():
                    state = task_run.state
                else:
                    state = self._crashed(task_run, f"{type(error).__name__}: {error}")
            runner.ok = state.is_completed()
            return state

    def _task(self, task_id: str) -> Task[Any, Any]:
        """Give a task; its code is unpickled once, as a module is imported once."""
        with self._opening:
            if task_id not in self._tasks:
                if len(self._tasks) >= TASKS_KEPT:
                    del self._tasks[next(iter(self._tasks))]
                self._tasks[task_id] = cloudpickle.loads(zlib.decompress(self._codes[task_id]))
                self._codes.pop(task_id, None)
            return self._tasks[task_id]

    def _crashed(self, task_run: TaskRun, message: str) -> State[Any]:
        state: State[Any] = Crashed(message=message)
        if task_run.state is None or not task_run.state.is_crashed():
            tell_state(task_run, state)
        return state

    def _pack_state(self, task_run: TaskRun, state: State[Any]) -> bytes:
        result = getattr(state.data, "result", state.data)
        try:
            if isinstance(result, BaseException):
                return pack_failure(state, result)
            return pack_state(state)
        except Exception as error:  # noqa: BLE001 - pickling runs any code
            return pack_state(
                self._crashed(
                    task_run,
                    f"the result, a {type(result).__name__}, cannot be pickled to leave its "
                    f"worker ({error}); return plain values, or write it to a file",
                )
            )


def known_on(worker: Any, task_run_id: str) -> bool:
    """Tell whether a task run is a call that runs on this worker, of which its client hears."""
    rooms: dict[str, Room] = worker.__dict__.get(ROOMS, {})
    return any(room.knows(task_run_id) for room in list(rooms.values()))


def route_here(worker: Any) -> Mapping[str, Any]:
    """Say how the API of the current settings is reached, on a worker that reaches it."""
    routes: dict[str, Mapping[str, Any]] = worker.__dict__.get(ROUTES, {})
    return routes.get(api_url(), {"relayed": False, "url": None})


def bytes_sent(dask_worker: Any) -> int:
    """Count the bytes of results that this worker has sent since it started."""
    return int(dask_worker.transfer_outgoing_bytes_total)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
