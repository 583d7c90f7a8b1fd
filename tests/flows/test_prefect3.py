"""What we count on in Prefect's internals, one test for each."""

from __future__ import annotations

import inspect
from uuid import uuid4

from prefect import flow, task
from prefect.context import FlowRunContext, SettingsContext, hydrated_context, serialize_context
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed
from prefect.task_engine import run_task_async, run_task_sync

from daskenv_lab.flows import prefect3


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


def test_engines_take_a_task_run() -> None:
    """Both engines take a task run that was made before."""
    for run in (run_task_sync, run_task_async):
        assert {"task_run", "task_run_id", "wait_for", "return_type"} <= set(
            inspect.signature(run).parameters
        )


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
