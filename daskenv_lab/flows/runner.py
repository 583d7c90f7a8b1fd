"""What sends task calls to Dask: the base of the kernel's task runner and of that on workers.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import abc
import contextlib
import contextvars
import dataclasses
import hashlib
import pickle
import sys
import threading
import uuid
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle
import distributed
from prefect.task_runners import TaskRunner

from daskenv_lab.flows import parcels
from daskenv_lab.flows.done import Telling
from daskenv_lab.flows.ends import Ends
from daskenv_lab.flows.fetching import DaskFutureList
from daskenv_lab.flows.future import DaskFuture
from daskenv_lab.flows.ingraph import run_in_room
from daskenv_lab.flows.prefect3 import (
    current_flow_run,
    current_tags,
    new_task_run,
    settings_in_force,
    written_assets,
)
from daskenv_lab.flows.shipping import pack, pack_inputs, pack_task
from daskenv_lab.flows.squeezed import Alike

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from prefect import Task

    from daskenv_lab.flows.squeezed import Squeezed
    from daskenv_lab.flows.sync.onworker import Code

TASKS_KEPT = 100
"""Tasks that are remembered as sent; a loop may make a new task for each call."""


class Prepared(NamedTuple):
    """A task call that is ready to be sent."""

    task_run_id: UUID
    name: str
    task_run: Squeezed
    call: bytes
    """What the worker needs to know of it alone, pickled."""

    upstream: list[DaskFuture]


class _Calls:
    """Stands in for the task runner while Prefect takes a map apart, and gathers its calls.

    What the map iterates over may submit tasks itself, which are not of the map.
    """

    _started = True

    def __init__(self, prepare: Callable[..., Prepared]) -> None:
        self.prepared: list[Prepared] = []
        self._prepare = prepare

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Any = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> Prepared:
        """Gather one call."""
        self.prepared.append(self._prepare(task, parameters, wait_for, dependencies or {}))
        return self.prepared[-1]


class DaskRunner(TaskRunner[DaskFuture]):
    """A task runner that sends task calls to a Dask cluster and looks after them.

    The flow run's context and a task's code go to the scheduler once, from which each worker
    fetches them once: see `parcels`.
    """

    _inner = False
    """Whether its calls are made by tasks, so that the kernel has no futures of theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.run_id = uuid.uuid4().hex
        self._futures: dict[str, DaskFuture] = {}
        self._rooms: list[tuple[object, str]] = []
        self._told: Any = None
        """The connection over which the scheduler was given what it keeps."""

        self._tasks: dict[int, tuple[Task[Any, Any], str]] = {}
        self._kept: set[str] = set()
        self._shipped: Code | None = None
        self._task_runs, self._states = Alike(), Alike()
        self._flow_run: Any = None
        self._ended = Ends()
        self._telling = Telling(self._on_done)
        self._sending = threading.RLock()
        self._mapping = threading.local()

    def __exit__(self, exc_type: Any, exc_value: Any, trace: Any) -> None:
        self._telling.close()
        # Connections that were opened meanwhile keep the flow's context, which holds this.
        for held in (self._futures, self._tasks, self._rooms):
            held.clear()
        super().__exit__(exc_type, exc_value, trace)

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Any = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> DaskFuture:
        """Send one call of a task to the cluster; Prefect calls it for `task.submit`."""
        return self._send(task, [self._prepare(task, parameters, wait_for, dependencies or {})], 1)[
            0
        ]

    def map(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Iterable[Any] | None = None,
    ) -> DaskFutureList:
        """Send many calls of a task in one message; Prefect calls it for `task.map`.

        Either all calls are sent, or none if one of them cannot travel.
        """
        batch, self._mapping.batch = getattr(self._mapping, "batch", 1), 1
        calls: Any = _Calls(self._prepare)
        TaskRunner.map(calls, task, parameters, wait_for)
        return DaskFutureList(self._send(task, calls.prepared, batch))  # type: ignore[abstract]

    @contextlib.contextmanager
    def batched(self, batch: int) -> Iterator[None]:
        """Let the map that this thread makes meanwhile put `batch` calls into one Dask task."""
        self._mapping.batch = batch
        try:
            yield
        finally:
            self._mapping.batch = 1

    def finish(self, *, ok: bool) -> None:
        """Wait for the calls that nobody awaited, or after a failure cancel what goes on."""
        if again := [f.wrapped_future for f in self._futures.values() if f.runs_again]:
            # It would be stopped, and end as Crashed at the API.
            distributed.fire_and_forget(again)
        pending = [f for f in self._futures.values() if not f.done]
        if ok:
            for future in self._futures.values():
                future.wait_until_done()
                future.settle_fault()
            return
        for future in pending:
            future.cancelled = True
        if pending:
            self._stop([future.wrapped_future for future in pending])
        for future in self._futures.values():
            if future.cancelled:
                future.cancel()
            else:
                future.settle_fault()

    def _stop(self, futures: list[distributed.Future]) -> None:
        self._reach().cancel(futures, force=True)

    @property
    def flow_completed(self) -> bool:
        """Whether the flow run, of which this is the task runner, has completed."""
        state = self._flow_run.state if self._flow_run else None
        return state is None or state.is_completed()

    @abc.abstractmethod
    def _reach(self) -> distributed.Client:
        """Give the client of the cluster that the calls go to."""

    @abc.abstractmethod
    def _written_room(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Write the flow run's context down, and how workers reach the API."""

    @abc.abstractmethod
    def _engine(self, client: distributed.Client) -> str:
        """Say under which name workers keep our code."""

    @abc.abstractmethod
    def _modules(self, client: distributed.Client) -> Code:
        """Say which of the user's own modules the calls use."""

    def _prepare(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Any,
        dependencies: dict[str, set[Any]],
    ) -> Prepared:
        if not self._started:
            raise RuntimeError("The task runner must be started before submitting work.")
        client = self._reach()
        self._flow_run = self._flow_run or current_flow_run()
        if self._shipped is None:
            # It says what travels by value, and so comes before all pickling.
            self._shipped = self._modules(client)
        inputs, upstream = pack_inputs(task, parameters, wait_for, client)
        task_run = new_task_run(
            task, parameters=parameters, wait_for=wait_for, dependencies=dependencies
        )
        kept = self._task_runs.squeeze(pickle.dumps(task_run))
        call = {
            "task_run": kept.small,
            "task": task.name,
            "tags": current_tags(),
            "assets": written_assets(task, task_run.id, task_run.task_inputs),
            "inputs": inputs,
            "inner": self._inner,
        }
        return Prepared(task_run.id, task_run.name, kept, pickle.dumps(call), upstream)

    def _send(self, task: Task[Any, Any], prepared: list[Prepared], batch: int) -> list[DaskFuture]:
        client = self._reach()
        with self._sending:
            room_id, task_id = self._room(), self._keep_task(client, task)
        context = contextvars.copy_context()
        chunks = [prepared[i : i + batch] for i in range(0, len(prepared), batch)]
        written = [_written(chunk) for chunk in chunks]
        dask_futures = client.map(
            run_in_room,
            [calls for calls, _ in written],
            [upstream for _, upstream in written],
            engine=self._engine(client),
            key=[f"{task.name or 'task'}-{chunk[0].task_run_id}" for chunk in chunks],
            pure=False,
            room_id=room_id,
            task_id=task_id,
        )
        sent = [
            (dask_future, self._sent(task, chunk, dask_future, context))
            for chunk, dask_future in zip(chunks, dask_futures, strict=True)
        ]
        self._telling.add(client, sent)
        return [future for _, made in sent for future in made]

    def _sent(
        self,
        task: Task[Any, Any],
        chunk: Sequence[Prepared],
        dask_future: distributed.Future,
        context: contextvars.Context,
    ) -> list[DaskFuture]:
        """Look after the calls of one Dask task from now on."""
        made = [
            DaskFuture(
                one.task_run_id,
                name=one.name,
                task=task.name,
                task_run=one.task_run,
                dask_future=dask_future,
                place=place,
                upstream=one.upstream,
                ended=self._ended,
                states=self._states,
                context=context,
            )
            for place, one in enumerate(chunk)
        ]
        self._futures.update((str(future.task_run_id), future) for future in made)
        self._on_sent(made)
        return made

    def _on_sent(self, futures: list[DaskFuture]) -> None:
        """Take note of calls that were sent together."""

    def _on_done(self, futures: list[DaskFuture]) -> None:
        """Take note of calls that Dask is done with."""
        for future in futures:
            future.on_dask_done()

    def _keep_task(self, client: distributed.Client, task: Task[Any, Any]) -> str:
        """See to it that the scheduler keeps a task's code, and give its key."""
        known = self._tasks.get(id(task))
        if known is None:
            code = zlib.compress(pack_task(task))
            key = f"{self._parcels_of}-{hashlib.sha256(code).hexdigest()}"
            if key not in self._kept:
                parcels.keep(client, self._parcels_of, key, code)
                self._kept.add(key)
            if len(self._tasks) >= TASKS_KEPT:
                self._tasks.pop(next(iter(self._tasks)))
            # The task is kept, so that its id stays its own.
            known = self._tasks[id(task)] = (task, key)
        return known[1]

    def _room(self) -> str:
        """See to it that the scheduler keeps the flow run's context, and give its key."""
        client = self._reach()
        if self._told is not client.scheduler_comm:
            # It is another scheduler, or has let go of all while the connection was broken.
            for kept in (self._rooms, self._tasks, self._kept):
                kept.clear()
            self._told = client.scheduler_comm
        settings = settings_in_force()
        for before, room_id in self._rooms:
            if before is settings:
                return room_id
        room_id = uuid.uuid4().hex
        assert self._shipped is not None  # noqa: S101 - `_prepare` has shipped them
        written, route = self._written_room()
        modules = dataclasses.astuple(self._shipped)
        route = {**route, "engine": self._engine(client)}
        told = zlib.compress(pack(written)[0])
        heard = not self._inner
        sample = self._task_runs.sample
        packed = pickle.dumps((self.run_id, self._root, told, route, modules, sample, heard))
        parcels.begin(client, self.run_id)
        parcels.keep(client, self.run_id, room_id, packed)
        self._rooms.append((settings, room_id))
        return room_id

    def _let_parcels_go(self) -> None:
        """Let the scheduler forget the flow run's context and its tasks' code."""
        if self._rooms and self._told is (client := self._reach()).scheduler_comm:
            parcels.end(client, self.run_id)

    @property
    def _parcels_of(self) -> str:
        """The run whose end lets the parcels go."""
        return self.run_id

    @property
    def _root(self) -> str:
        """The run of the kernel, on whose behalf all this happens."""
        return self.run_id


def _written(
    chunk: Iterable[Prepared],
) -> tuple[list[bytes], list[distributed.Future]]:
    """Pickle the calls of one Dask task, and list what Dask must have ready for them."""
    places: dict[distributed.Future, int] = {}
    calls = []
    for one in chunk:
        needed = [(places.setdefault(f.wrapped_future, len(places)), f.place) for f in one.upstream]
        calls.append(pickle.dumps((one.call, needed)))
    return calls, list(places)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
