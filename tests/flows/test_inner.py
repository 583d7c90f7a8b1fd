"""Task runs that tasks submit end at the API too when a worker dies with them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from prefect import flow, runtime, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from daskenv_lab.flows.flow_run import run_flow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Go = Callable[..., Any]


def test_children_that_die_with_their_parent(
    own: LocalCluster, api: str, recorded: Go, tmp_path: Path
) -> None:
    """A parent whose worker is killed runs again; of its first children none stays Running."""

    @task
    def child(x: int) -> int:
        for _ in range(1200 if not (tmp_path / "killed").exists() else 1):
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
