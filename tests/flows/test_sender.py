"""What an event is about, beside its own task run, as it is sent to the API."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import pytest
from prefect import flow, tags, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.events import Event
from prefect.settings import PREFECT_API_URL, temporary_settings

from daskenv_lab.flows.pace import MANY
from daskenv_lab.flows.prefect3 import new_task_run
from daskenv_lab.flows.reporting import Reporter
from daskenv_lab.flows.sender import Sender
from tests.flows.posted import Api
from tests.waiting import until

URL = "http://127.0.0.1:1/api"


@pytest.fixture
def wire() -> Iterator[Api]:
    """Give a server."""
    with Api() as api:
        yield api


def event_of(task_run: TaskRun, tag: str = "a") -> Event:
    """Make an event of a task run's with a tag."""
    return Event(
        event="prefect.task-run.Pending",
        resource={"prefect.resource.id": f"prefect.task-run.{task_run.id}"},
        related=[{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}],
    )


def roles(event: Event) -> list[str]:
    """List what is named."""
    return sorted(resource.role for resource in event.related)


@task
def some() -> None:
    """Do nothing."""


def made() -> TaskRun:
    """Make a task run of the flow run in whose context this is called."""
    return new_task_run(some, parameters={}, wait_for=None, dependencies={})


def test_task_runs_of_a_flow_run_have_it_in_common(api: str) -> None:
    """Once one event of a flow run has been related, the API need not be asked for the others."""
    sender = Sender({}, URL)

    @flow
    async def f() -> None:
        first = event_of(made(), tag="a")
        assert not sender.relate_as_before(first)
        assert sender.is_first(first)
        assert not sender.is_first(event_of(made()))
        async with get_client() as sender.client:
            await sender.relate(first)
        second, other = event_of(made(), tag="a"), event_of(made(), tag="b")
        assert sender.relate_as_before(second)
        assert sender.relate_as_before(other)
        # The flow run's own tag is named once.
        assert roles(first) == roles(second) == ["flow", "flow-run", "tag"]
        assert roles(other) == ["flow", "flow-run", "tag", "tag"]

    with tags("a"):
        asyncio.run(f())


@pytest.mark.parametrize("inside", [False, True])
def test_what_is_in_common_is_what_prefect_finds(api: str, inside: bool) -> None:
    """Each event gets what Prefect would have attached to it, in and before its task run."""
    sender = Sender({}, URL)

    async def compare(task_run: TaskRun) -> bool:
        own, prefects = event_of(task_run), event_of(task_run)
        async with get_client() as sender.client:
            await sender.relate(own)
            await sender.attach_related_resources_from_context(prefects)
        return own.related == prefects.related

    @task
    async def in_it() -> bool:
        context = TaskRunContext.get()
        return context is not None and await compare(context.task_run)

    @flow
    async def f() -> bool:
        return await in_it() if inside else await compare(made())

    with tags("x", "y"):
        assert asyncio.run(f())


def test_a_task_run_that_another_submits_is_about_that_one_too(api: str) -> None:
    """It has not all in common with those that the flow submits."""
    sender = Sender({}, URL)

    @task
    async def outer() -> list[list[str]]:
        inside = TaskRunContext.get()
        assert inside is not None
        own, nested = event_of(inside.task_run), event_of(made())
        async with get_client() as sender.client:
            await sender.relate(own)
            await sender.relate(nested)
        return [roles(own), roles(nested)]

    @flow
    async def f() -> list[list[str]]:
        async with get_client() as sender.client:
            await sender.relate(event_of(made()))
        return await outer()

    alone = ["flow", "flow-run", "tag"]
    assert asyncio.run(f()) == [alone, [*alone, "task-run"]]


def test_the_first_events_of_a_flow_run_are_not_held(wire: Api, api: str) -> None:
    """What is told after them is then kept as it is sent, however many there are."""
    with temporary_settings({PREFECT_API_URL: wire.url}):
        reporter = Reporter({}, hold=math.inf)

    def told() -> bool:
        for _ in range(MANY):
            reporter.take_event(event_of(made()))
        return True

    @flow
    def f() -> bool:
        until(lambda: told() and wire.posts)
        return reporter.pending > 0

    try:
        assert f() is True
    finally:
        reporter.close()
