"""Task runs that tasks submit or call end at the API too when a worker dies with them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from distributed import LocalCluster
from prefect import flow, runtime, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.task_runners import ThreadPoolTaskRunner

from daskenv_lab.flows.executor import DaskExecutor
from daskenv_lab.flows.flow_run import run_flow
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Go = Callable[..., Any]


def test_children_that_die_with_their_parent(
    own: LocalCluster, api: str, recorded: Go, tmp_path: Path
) -> None:
    """A parent whose worker is killed runs again; of its first children none stays Running."""

    @task
    def child(x: int) -> int:
        for _ in range(4800 if not (tmp_path / "killed").exists() else 1):
            time.sleep(0.05)
        return x

    @task
    def parent() -> int:
        (tmp_path / "pid").write_text(str(os.getpid()))
        return sum(child.map([1, 2]).result())

    @flow
    def f() -> int:
        future = parent.submit()
        await_states(runtime.flow_run.id, ["Running"] * 3)
        (tmp_path / "killed").touch()
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        return future.result()

    report = run_flow(f, {}, on=own, progress=False)
    assert report.result == 3
    states = sorted(run.state_name for run in recorded(report.flow_run_id, 5))
    assert states == ["Completed"] * 3 + ["Crashed"] * 2


def test_many_children_of_workers_that_are_killed(
    own: LocalCluster, api: str, recorded: Go
) -> None:
    """What small tasks in tasks did, and their workers had not told, is told by the kernel."""

    @task(tags=["small"])
    def small(x: int) -> int:
        if x == 7:
            raise ValueError("unlucky")
        return x

    @task
    def parent() -> list[str]:
        futures = small.map(range(60))
        futures.wait()
        return [future.state.name for future in futures]

    @flow
    def f() -> list[str]:
        names = parent.submit().result()
        for nanny in own.workers.values():
            # On a new worker Dask would run the parent again, with children of its own.
            nanny.close_gracefully()
            os.kill(nanny.pid, signal.SIGKILL)
        time.sleep(1)
        return names

    report = run_flow(f, {}, on=own, progress=False)
    assert report.result.count("Completed") == 59
    runs = recorded(report.flow_run_id, 61)
    assert sorted(run.state_name for run in runs) == ["Completed"] * 60 + ["Failed"]
    small_ones = [run for run in runs if "small" in run.tags]
    assert len(small_ones) == 60
    assert all(run.start_time and run.end_time for run in small_ones)


@pytest.mark.parametrize("submits", ["calls", "submits"])
def test_what_runs_inside_a_task_that_dies(
    own: LocalCluster, api: str, recorded: Go, tmp_path: Path, submits: str
) -> None:
    """A task that was called, a flow and its tasks in a task: none stays Running."""

    @task
    def child() -> str:
        if not (tmp_path / "killed").exists():
            (tmp_path / "pid").write_text(str(os.getpid()))
            time.sleep(240)  # Until it is killed.
        return "done"

    # As it would be written for the kernel, and as it is by default.
    runner = DaskExecutor() if submits == "submits" else ThreadPoolTaskRunner()

    @flow(task_runner=runner)
    def inside() -> str:
        before()
        return child.submit().result()

    @task
    def before() -> None:
        pass

    @task
    def parent() -> str:
        before()
        (tmp_path / "parent").write_text(str(os.getpid()))
        return inside()

    @flow
    def f() -> str:
        future = parent.submit()
        until(lambda: (tmp_path / "pid").exists())
        # The worker has told of it by then, if it runs on another.
        time.sleep(1)
        (tmp_path / "killed").touch()
        for name in {(tmp_path / who).read_text() for who in ("pid", "parent")}:
            os.kill(int(name), signal.SIGKILL)
        return future.result()

    report = run_flow(f, {}, on=own, progress=False)
    assert report.result == "done"
    # The parent, what it calls twice, and the task run by which Prefect links each inner flow run.
    outer = {run.id: run for run in recorded(report.flow_run_id, 5)}
    assert sorted(run.state_name for run in outer.values()) == ["Completed"] * 4 + ["Crashed"]
    with get_client(sync_client=True) as client:
        parents = FlowRunFilterParentFlowRunId(any_=[UUID(report.flow_run_id)])
        inner = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parents))
    assert sorted(run.state_name for run in inner) == ["Completed", "Crashed"]
    for flow_run in inner:
        states = sorted(run.state_name for run in recorded(str(flow_run.id), 2))
        assert states == ["Completed", flow_run.state_name]


def await_states(flow_run_id: Any, names: list[str]) -> None:
    """Wait until the API knows of task runs in these states, and of no others."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    deadline = time.monotonic() + 120
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = client.read_task_runs(flow_run_filter=chosen)
            if sorted(str(run.state_name) for run in runs) == names:
                return
            time.sleep(0.2)
    raise AssertionError(f"the API has no {names} of {flow_run_id}")
