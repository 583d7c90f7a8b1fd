"""What we count on in Prefect's internals, one test for each."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, get_run_logger, task
from prefect.context import FlowRunContext, SettingsContext, hydrated_context, serialize_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import set_api_log_sink
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed
from prefect.task_engine import (
    AsyncTaskRunEngine,
    SyncTaskRunEngine,
    run_task_async,
    run_task_sync,
)

from daskenv_lab.flows import prefect3
from daskenv_lab.flows.sender import Sender


@task
def some(x: int) -> int:
    """Give back the argument."""
    return x


def test_task_run_is_made_without_the_api() -> None:
    """A task run has its own id, a first state, and the inputs as lists."""
    made = prefect3.new_task_run(some, parameters={"x": 1}, wait_for=None, dependencies={})
    assert made.state is not None
    assert made.state.is_pending()
    assert made.task_inputs == {"x": []}


def loop_of(function: Callable[..., Any]) -> str:
    """Give the loop in which a function drives Prefect's engine."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.While)]
    return ast.unparse(found)


@pytest.mark.parametrize(
    ("ours", "prefects"),
    [
        (prefect3.run_task_call, run_task_sync),
        (prefect3.run_async_task_call, run_task_async),
    ],
)
def test_engines_are_driven_as_prefect_drives_them(
    ours: Callable[..., Any], prefects: Callable[..., Any]
) -> None:
    """The loop around an engine is Prefect's own, statement for statement."""
    assert loop_of(ours) == loop_of(prefects)


def test_engines_note_the_event_that_their_next_one_follows() -> None:
    """The attribute that is set before the first event of an engine is there."""
    for engine in (SyncTaskRunEngine, AsyncTaskRunEngine):
        assert engine(task=some)._last_event is None


def test_context_is_a_dict_with_known_parts() -> None:
    """The written context has the parts that are replaced before it travels."""
    assert {"flow_run_context", "task_run_context", "tags_context", "settings_context"} <= set(
        serialize_context()
    )
    with hydrated_context({}):
        pass


def test_settings_are_one_object_until_they_change() -> None:
    """The settings are the same object until they are changed."""
    before = prefect3.settings_in_force()
    assert before is prefect3.settings_in_force()
    assert isinstance(before, SettingsContext)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert prefect3.settings_in_force() is not before


def test_flow_run_state_is_kept_fresh(api: str) -> None:
    """The flow run in the context is the engine's own, so that its state tells how it ended."""
    seen = []

    @flow
    def f() -> None:
        seen.append(FlowRunContext.get().flow_run)
        seen.append(prefect3.current_flow_run())

    f()
    assert seen[0] is seen[1]
    assert seen[0].state.is_completed()


def test_events_sender_can_be_pointed_elsewhere() -> None:
    """The sender of events takes the address of the settings in force."""
    before = EventsWorker._client_override
    try:
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
            prefect3.send_events_to_this_api()
            assert EventsWorker._client_override[1] == (("api_url", "http://127.0.0.1:1/api"),)
    finally:
        EventsWorker._client_override = before


def test_a_sender_in_prefects_place_is_given_the_events() -> None:
    """What is told to an API goes to the sender that was put in place for its address."""
    taken: list[Any] = []

    class Taker:
        take_event = staticmethod(taken.append)

    url = "http://127.0.0.1:1/api"
    reporters: Any = {url: Taker}
    before = EventsWorker._client_override
    with temporary_settings({PREFECT_API_URL: url}):
        sender = Sender(reporters, url)
        sender.put_in_place()
        try:
            prefect3.send_events_to_this_api()
            made = prefect3.new_task_run(some, parameters={}, wait_for=None, dependencies={})
            told = prefect3.announce(made)
        finally:
            sender.remove()
            EventsWorker._client_override = before
    assert taken == [told]


def test_log_lines_can_be_taken_before_they_are_sent(api: str) -> None:
    """Prefect's handler gives each line, ready to be sent, to what was put in place for it."""
    taken: list[dict[str, Any]] = []

    @flow
    def f() -> None:
        get_run_logger().info("a line")

    set_api_log_sink(taken.append)
    try:
        f()
    finally:
        set_api_log_sink(None)
    (line,) = [told for told in taken if told["message"] == "a line"]
    assert line["__payload_size__"] > 0


def test_state_of_a_task_run_is_told(api: str) -> None:
    """A state that is told stands in the task run as well."""
    made = prefect3.new_task_run(some, parameters={}, wait_for=None, dependencies={})
    state = Completed()
    prefect3.tell_state(made, state)
    assert made.state is state
    assert state.state_details.task_run_id == made.id


def test_only_tasks_with_assets_carry_them() -> None:
    """A task without assets travels without an asset context."""
    assert prefect3.written_assets(some, uuid4(), {}) == {}
