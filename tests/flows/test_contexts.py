"""What a worker keeps open for all flow runs with the same settings, and what it does not."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import distributed
import pytest
from distributed import LocalCluster
from prefect import flow, runtime, task
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, SettingsContext, SyncClientContext, serialize_context
from prefect.settings import PREFECT_LOGGING_LEVEL, get_current_settings, temporary_settings
from prefect.variables import Variable

from daskenv_lab.flows.contexts import OpenContext, Surroundings

Seen = tuple[str, int, int, str, str]


@task
def look(_: int) -> Seen:
    """Tell where this runs, with which settings and client, and in which flow run."""
    about = FlowRunContext.get()
    return (
        distributed.get_worker().address,
        id(SettingsContext.get()),
        id(get_client(sync_client=True)._client),
        str(about.flow_run.id if about and about.flow_run else None),
        str(Variable.get("answer")),
    )


@flow
def looks() -> tuple[str, list[Seen]]:
    """Look on each worker."""
    return str(runtime.flow_run.id), look.map(range(8)).result()


@pytest.mark.slow
def test_flow_runs_share_settings_and_client(go: Callable[..., Any], api: str) -> None:
    """The next flow run finds both open, and is itself all the same."""
    Variable.set("answer", "42")
    told = [go(looks).result for _ in range(2)]
    assert [{seen[3] for seen in all_seen} for _, all_seen in told] == [{own} for own, _ in told]
    assert {seen[4] for _, all_seen in told for seen in all_seen} == {"42"}
    by_worker: dict[str, set[tuple[int, int]]] = {}
    for _, all_seen in told:
        for address, settings, client, *_rest in all_seen:
            by_worker.setdefault(address, set()).add((settings, client))
    assert all(len(kept) == 1 for kept in by_worker.values()), by_worker


@task
def level() -> str:
    """Tell a setting, as it is on the worker."""
    return get_current_settings().logging.level


@flow
def levels() -> str:
    """Tell it to the client."""
    return level.submit().result()


@pytest.mark.slow
def test_changed_settings_are_heeded(go: Callable[..., Any], cluster: LocalCluster) -> None:
    """A flow run with other settings, or with other variables on its worker, gets those."""

    def put(name: str, value: str | None) -> None:
        os.environ.update({name: value} if value else {})
        if value is None:
            os.environ.pop(name, None)

    assert go(levels).result == "INFO"
    with temporary_settings({PREFECT_LOGGING_LEVEL: "ERROR"}):
        assert go(levels).result == "ERROR"
    with distributed.Client(cluster) as client:
        client.run(put, "PREFECT_LOGGING_LEVEL", "WARNING")
        try:
            assert go(levels).result == "WARNING"
        finally:
            client.run(put, "PREFECT_LOGGING_LEVEL", None)
    assert go(levels).result == "INFO"


def test_they_close_with_what_was_opened_in_them(api: str) -> None:
    """The HTTP client is open as long as a flow run's context may use it, and no longer."""
    written = {**serialize_context(), "flow_run_context": {}}
    surroundings = Surroundings(written["settings_context"])
    assert surroundings.made_of(serialize_context()["settings_context"])
    opened = OpenContext(surroundings, written)
    client = opened.run(lambda: SyncClientContext.get().client)
    assert client is opened.run(get_client, None, True)
    del surroundings
    gc.collect()
    assert not client._client.is_closed
    opened.close()
    del opened
    gc.collect()
    assert client._client.is_closed


def test_nothing_of_the_caller_comes_into_a_call(api: str) -> None:
    """Dask starts a task in the context of whoever gave it work, such as another task run."""
    mine: ContextVar[str] = ContextVar("mine")
    written = {**serialize_context(), "flow_run_context": {}}
    surroundings = Surroundings(written["settings_context"])
    mine.set("at the opening")
    opened = OpenContext(surroundings, written)
    mine.set("at the call")
    assert opened.run(mine.get) == "at the opening"
    opened.close()
