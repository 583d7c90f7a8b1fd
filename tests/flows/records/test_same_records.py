"""The API records the same of a flow on `DaskExecutor` as on prefect-dask's task runner."""

from __future__ import annotations

import asyncio
import contextvars
import difflib
import inspect
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from distributed import Client, LocalCluster
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.filesystems import LocalFileSystem
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner
from prefect_dask import DaskTaskRunner

from daskenv_lab import DaskExecutor

from . import asynchronous, everything
from .reading import records

# One fixture runs everything, before the first test.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

TASK_RUNS = {"inputs": 26, "outcomes": 26, "asynchronous": 10, "second_try": 6, "annotated": 6}
"""The flows, each with the number of its task runs at least.

They are compared with prefect-dask's, but annotations with the thread runner's: on prefect-dask's
workers annotations come out as tuples, and `allow_failure` allows nothing.
"""

HANGS = 90.0
"""Seconds after which a flow run hangs that takes ten."""

KINDS = ["value", "flow runs", "task runs", "logs", "events", "artifacts", "stored results"]
Told = dict[str, Any]

HISTORIES = {
    "breaks-…": "Pending Running Failed",
    "unready-…": "Pending NotReady",
    "double 7": "Pending NotReady",
    "excused-…": "Pending Running Completed",
    "flaky-…": "Pending Running Retrying Retrying Completed",
    "patient-…": "Pending Running AwaitingRetry Retrying Completed",
    "exhausted-…": "Pending Running AwaitingRetry Retrying Failed",
    "hopeless-…": "Pending Running Failed",
    "slow-…": "Pending Running TimedOut",
    "remembered 0-…": "Pending Running Completed",
    "remembered 1-…": "Pending Running Cached",
    "remembered 2-…": "Pending Running Completed",
    "keyed 0-…": "Pending Running Completed",
    "keyed 1-…": "Pending Running Cached",
    "flaky_later-…": "Pending Running AwaitingRetry Retrying Completed",
    "slow_later-…": "Pending Running TimedOut",
}
"""The states of task runs, in order."""


@pytest.fixture(scope="module")
def prepared(api: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Create the limits and the block that the flows need."""
    folder = tmp_path_factory.mktemp("results")
    LocalFileSystem(basepath=str(folder)).save("same-records", overwrite=True)
    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag=everything.LIMITED, concurrency_limit=5)
        limit = GlobalConcurrencyLimitCreate(name=everything.SLOTS, limit=5)
        client.create_global_concurrency_limit(limit)


@pytest.fixture(scope="module")
def recorded(cluster: LocalCluster, prepared: None) -> dict[str, tuple[Told, Told]]:
    """Run each flow twice, and give what was recorded of it: on ours, and on the other."""
    security = {"security": cluster.security}
    prefect_dask = DaskTaskRunner(address=cluster.scheduler_address, client_kwargs=security)
    other = {**dict.fromkeys(TASK_RUNS, prefect_dask), "annotated": ThreadPoolTaskRunner()}
    # Only if it is told how often does a flow run on ours send heartbeats.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 180}):
        runs = {
            f: (run(f, DaskExecutor(cluster)), run_or_free(f, other[f], cluster)) for f in TASK_RUNS
        }
    with records() as api:
        ids = [flow_run_id for both in runs.values() for flow_run_id, *_ in both]
        api.await_recorded(ids, 2 * sum(TASK_RUNS.values()))
        return {f: (api.of(*ours), api.of(*theirs)) for f, (ours, theirs) in runs.items()}


def run(name: str, runner: Any) -> tuple[str, str, Any]:
    """Run a flow; give its id, the word that was its own, and its value."""
    salt = f"salt{uuid.uuid4().hex[:12]}"
    module = asynchronous if name == "asynchronous" else everything
    flow = getattr(module, name).with_options(task_runner=runner)
    state = flow(salt, return_state=True)
    if inspect.iscoroutine(state):
        state = asyncio.run(state)
    value = state.result(raise_on_failure=False, _sync=True)
    return str(state.state_details.flow_run_id), salt, value


def run_or_free(name: str, runner: Any, cluster: LocalCluster) -> tuple[str, str, Any]:
    """Run a flow; if it hangs, free the cluster of it and try again.

    Now and then prefect-dask does: a task holds its thread while it waits for a task of its own,
    which Dask has given to that same worker.
    """
    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            ran = pool.submit(contextvars.copy_context().run, run, name, runner)
            try:
                return ran.result(HANGS)
            except TimeoutError:
                with Client(cluster) as client:
                    client.restart()
    raise AssertionError(f"{name!r} hung three times")


def lines(told: Any) -> list[str]:
    """Write down what was recorded, so that differences can be read."""
    return json.dumps(told, sort_keys=True, indent=1, ensure_ascii=False).splitlines()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flow", TASK_RUNS)
def test_the_same_is_recorded(flow: str, kind: str, recorded: dict[str, tuple[Told, Told]]) -> None:
    """Each kind of what the API knows of a flow's runs is the same for both."""
    ours, theirs = recorded[flow]
    changes = list(difflib.unified_diff(lines(theirs[kind]), lines(ours[kind]), n=8, lineterm=""))
    assert not changes, "\n".join(changes)


def test_what_was_meant_to_happen_did(recorded: dict[str, tuple[Told, Told]]) -> None:
    """The flows' task runs went through the states that they were written for."""
    ours = [run for told, _ in recorded.values() for run in told["task runs"]]
    seen = {run["name"]: " ".join(state["name"] for state in run["history"]) for run in ours}
    assert {name: seen[name] for name in HISTORIES} == HISTORIES


def test_stored_results_and_artifacts_are_read_back(recorded: dict[str, tuple[Told, Told]]) -> None:
    """Results are where the API says, and artifacts belong to the task run that left them."""
    ours, _ = recorded["outcomes"]
    kept = {stored["id"]: stored["result"] for stored in ours["stored results"]}
    assert kept["kept-…"] == "{'x': 1}"
    assert kept["broken_and_kept-…"] == "LookupError('no salt')"
    left = {a["key"] for a in ours["artifacts"] if a["task_run_id"] == "leaves_traces-…"}
    assert left == {f"salt-{kind}" for kind in ("link", "markdown", "progress", "table")}


def test_assets_events_and_slots_are_told(recorded: dict[str, tuple[Told, Told]]) -> None:
    """What tasks make, build on, hold and emit by themselves is among the events."""
    ours, _ = recorded["outcomes"]
    told = {(e["event"], e["resource"]["prefect.resource.id"]) for e in ours["events"]}
    raw, clean = everything.RAW.key, everything.CLEAN.key
    assert told >= {
        ("prefect.asset.materialization.succeeded", raw),
        ("prefect.asset.referenced", raw),
        ("prefect.asset.materialization.succeeded", clean),
        ("prefect.asset.referenced", "s3://same/elsewhere"),
        ("prefect.asset.materialization.failed", "s3://same/never"),
        ("prefect.task-run.RolledBack", "prefect.task-run.undone-…"),
        ("same.thing", "same.thing"),
    }
    held = {e["resource"]["prefect.resource.name"] for e in ours["events"] if "slots" in str(e)}
    assert everything.SLOTS in held
