"""The internals of Prefect 3 that this package uses, each behind one function.

None of them is promised by Prefect; ``tests/flows/test_prefect3.py`` says what we count on.
The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
from prefect._flow_run_suspension import raise_if_flow_run_suspension_requested
from prefect.client.orchestration import get_client
from prefect.context import (
    AssetContext,
    FlowRunContext,
    SettingsContext,
    TagsContext,
    serialize_context,
    tags,
)
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker, emit_events_to_cloud
from prefect.settings import PREFECT_API_URL
from prefect.task_engine import (
    AsyncTaskRunEngine,
    SyncTaskRunEngine,
    _create_task_run_locally,
)
from prefect.tasks import MaterializingTask
from prefect.utilities.engine import (
    collect_task_run_inputs_sync,
    emit_task_run_state_change_event,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from uuid import UUID

    from prefect import Flow, Task
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.events.schemas.events import Event


def new_task_run(
    task: Task[Any, Any],
    *,
    parameters: Mapping[str, Any],
    wait_for: Any,
    dependencies: Mapping[str, set[Any]],
) -> TaskRun:
    """Make the task run as Prefect's engine would, where the task is submitted."""
    # The futures among the parameters stay out of it: Prefect would ask each for its state.
    task_run = _create_task_run_locally(task=task, parameters={})
    inputs: dict[str, list[Any]] = {
        name: list(collect_task_run_inputs_sync(value) | set(dependencies.get(name, ())))
        for name, value in parameters.items()
    }
    if wait_for:
        inputs["wait_for"] = list(collect_task_run_inputs_sync(wait_for))
    task_run.task_inputs = {**inputs, **task_run.task_inputs}
    return task_run


def announce(task_run: TaskRun) -> Event | None:
    """Tell the API of a task run in its first state, as Prefect's engine does."""
    if task_run.state is None:
        return None
    return emit_task_run_state_change_event(
        task_run=task_run, initial_state=None, validated_state=task_run.state
    )


def tell_state(task_run: TaskRun, state: State[Any]) -> None:
    """Put a task run into a state, and tell the API."""
    before = task_run.state
    state.state_details.task_run_id = task_run.id
    state.state_details.flow_run_id = task_run.flow_run_id
    task_run.state = state
    task_run.state_id, task_run.state_type, task_run.state_name = state.id, state.type, state.name
    if state.is_final() and task_run.start_time and not task_run.end_time:
        task_run.end_time = cast("Any", state.timestamp)
    emit_task_run_state_change_event(task_run=task_run, initial_state=before, validated_state=state)


def tell_run(task_run: TaskRun, state: State[Any], start: datetime | None) -> None:
    """Tell the API of a task run from its first state to the one in which it ended.

    What the API knows already, by the ids of the states, it leaves as it is.
    """
    announce(task_run)
    task_run.run_count = 1
    # A start in the last moment before a worker was killed was not told.
    task_run.start_time = cast("Any", start or state.timestamp)
    tell_state(task_run, state)


def send_events_to_this_api() -> None:
    """Let this process's events go to the API of the current settings.

    Prefect keeps one sender for each process, with the address of its first use; a long-lived
    worker would go on sending to an API that has since moved.
    """
    url = PREFECT_API_URL.value()
    if not url or emit_events_to_cloud():
        EventsWorker.set_client_override(None)
    elif EventsWorker._client_override != (wanted := (PrefectEventsClient, (("api_url", url),))):
        EventsWorker.set_client_override(wanted[0], api_url=url)


@contextlib.contextmanager
def events_to_this_api() -> Iterator[None]:
    """Let this process's events go to the API of the current settings, while it lasts."""
    before = EventsWorker._client_override
    send_events_to_this_api()
    try:
        yield
    finally:
        if before is None:
            EventsWorker.set_client_override(None)
        else:
            EventsWorker.set_client_override(before[0], **dict(before[1]))


def api_url() -> str:
    """Give the address of the API of the current settings; empty if Prefect is told of none."""
    return str(PREFECT_API_URL.value() or "")


def current_runner() -> Any:
    """Give the task runner of the flow run, or of the task run on a worker, that runs here."""
    context = FlowRunContext.get()
    return None if context is None else context.task_runner


def current_flow() -> Flow[Any, Any] | None:
    """Give the flow that runs here, or on whose behalf this worker runs a task."""
    context = FlowRunContext.get()
    return context.flow if context else None


def current_flow_run() -> Any:
    """Give the flow run whose engine works in this process; the engine keeps its state fresh."""
    context = FlowRunContext.get()
    return None if context is None or context.detached else context.flow_run


def current_parameters() -> dict[str, Any]:
    """Give the parameters of the flow run that works in this process."""
    context = FlowRunContext.get()
    return {} if context is None or context.detached else dict(context.parameters or {})


@contextlib.contextmanager
def in_flow_run(flow_run_id: UUID) -> Iterator[None]:
    """Let what is told of task runs meanwhile be of this flow run, which the API knows."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.id == flow_run_id:
        yield
        return
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(flow_run_id)
    with context.model_copy(update={"flow_run": flow_run}):
        yield


def settings_in_force() -> object:
    """Give the current settings, which are another object once they change."""
    return SettingsContext.get()


def current_tags() -> list[str]:
    """List the tags that are set for new runs."""
    context = TagsContext.get()
    return sorted(context.current_tags) if context else []


def written_context(flow: Flow[Any, Any]) -> dict[str, Any]:
    """Write the current flow run's context down, with `flow` in the place of its flow."""
    written = serialize_context()
    written["task_run_context"] = {}
    written["tags_context"] = {}
    if written["flow_run_context"]:
        written["flow_run_context"]["flow"] = flow
    return written


def written_assets(
    task: Task[Any, Any], task_run_id: UUID, inputs: Mapping[str, list[Any]]
) -> dict[str, Any]:
    """Write down the assets that a task makes or needs; empty for the many that have none."""
    flow_run = FlowRunContext.get()
    named = task.asset_deps or (isinstance(task, MaterializingTask) and task.assets)
    if not named and not (flow_run and flow_run.task_run_assets):
        return {}
    return AssetContext.from_task_and_inputs(
        task=task,
        task_run_id=task_run_id,
        task_inputs=cast("Any", dict(inputs)),
        copy_to_child_ctx=True,
    ).serialize()


@contextlib.contextmanager
def task_run_in_flow_run(
    runner: Any, call_tags: list[str], assets: Mapping[str, Any]
) -> Iterator[None]:
    """Enter a copy of the flow run's context, for one task run with its own task runner."""
    with contextlib.ExitStack() as stack:
        if flow_run := FlowRunContext.get():
            fresh: dict[str, Any] = {
                "run_results": {},
                "task_run_dynamic_keys": {},
                "task_run_assets": {},
            }
            copied = flow_run.model_copy(update={**fresh, "task_runner": runner})
            stack.enter_context(copied)
        stack.enter_context(tags(*call_tags))
        if assets:
            stack.enter_context(AssetContext(**assets))
        yield


def run_task_call(
    task: Task[Any, Any],
    task_run: TaskRun,
    parameters: dict[str, Any],
    wait_for: Any,
    after: Event | None,
) -> State[Any]:
    """Run a synchronous task in Prefect's engine; the events that it tells follow `after`."""
    engine: SyncTaskRunEngine[Any, Any] = SyncTaskRunEngine(
        task=task, task_run=task_run, parameters=parameters, wait_for=wait_for
    )
    engine._last_event = after
    with engine.start(task_run_id=task_run.id):
        while engine.is_running():
            engine.wait_until_ready()
            with (
                engine.asset_context(),
                engine.run_context(),
                engine.transaction_context() as txn,
            ):
                engine.call_task_fn(txn)
            raise_if_flow_run_suspension_requested()
    return engine.state


def run_async_task_call(
    task: Task[Any, Any],
    task_run: TaskRun,
    parameters: dict[str, Any],
    wait_for: Any,
    after: Event | None,
    started: Callable[[asyncio.AbstractEventLoop, asyncio.Task[Any]], None],
) -> State[Any]:
    """Run an asynchronous task in Prefect's engine, in an event loop of its own."""

    async def call() -> State[Any]:
        current = asyncio.current_task()
        assert current is not None  # noqa: S101 - a coroutine always runs in a task
        started(asyncio.get_running_loop(), current)
        engine: AsyncTaskRunEngine[Any, Any] = AsyncTaskRunEngine(
            task=task, task_run=task_run, parameters=parameters, wait_for=wait_for
        )
        engine._last_event = after
        async with engine.start(task_run_id=task_run.id):
            while engine.is_running():
                await engine.wait_until_ready()
                async with (
                    engine.asset_context(),
                    engine.run_context(),
                    engine.transaction_context() as txn,
                ):
                    await engine.call_task_fn(txn)
                raise_if_flow_run_suspension_requested()
        return engine.state

    return asyncio.run(call())


cloudpickle.register_pickle_by_value(sys.modules[__name__])
