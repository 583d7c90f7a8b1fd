"""A cluster of two worker processes under TLS, and a real Prefect API, for all tests here."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from distributed import LocalCluster, Security
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from daskenv_lab.flows.api import prefect_api
from daskenv_lab.flows.flow_run import run_flow
from daskenv_lab.report import FlowRunReport


@pytest.fixture(scope="session", autouse=True)
def workers_are_forked() -> None:
    """Fork all worker processes from one that has imported what each would import for seconds.

    It runs before Dask asks for it with a list of its own.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["distributed", "prefect.task_engine", "prefect.events.worker"])
    forkserver.ensure_running()


@pytest.fixture
def forgotten(tmp_path: Path) -> Iterator[None]:
    """Forget the modules that a test loads from its folder, whose names others use too."""
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def security() -> Security:
    """Give TLS credentials that were made for these tests."""
    return Security.temporary()


@pytest.fixture(scope="session")
def cluster(security: Security, state_dir: Path) -> Iterator[LocalCluster]:
    """Give a cluster of two worker processes with one thread each."""
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        security=security,
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
    ) as cluster:
        yield cluster


@pytest.fixture
def own() -> Iterator[LocalCluster]:
    """Give a cluster whose workers may die."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as own:
        yield own


@pytest.fixture(scope="session")
def api(state_dir: Path) -> Iterator[str]:
    """Give the address of the local Prefect API, and use it."""
    with prefect_api() as url:
        yield url


@pytest.fixture
def go(cluster: LocalCluster, api: str) -> Callable[..., FlowRunReport]:
    """Give a function that runs a flow on the cluster and reports on it."""

    def go(flow: Flow[..., Any], **parameters: Any) -> FlowRunReport:
        return run_flow(flow, parameters, on=cluster, progress=False)

    return go


@pytest.fixture
def recorded(api: str) -> Callable[..., list[Any]]:
    """Give a function that reads a flow run's task runs from the API, once they are final."""
    import time

    def read(flow_run_id: str, n: int) -> list[Any]:
        deadline = time.monotonic() + 120
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(str(flow_run_id))]))
        with get_client(sync_client=True) as client:
            while True:
                found = client.read_task_runs(flow_run_filter=chosen)
                over = [
                    t
                    for t in found
                    if t.state and (t.state.is_final() or t.state.name == "NotReady")
                ]
                if len(over) >= n or time.monotonic() > deadline:
                    return found
                time.sleep(0.2)

    return read
