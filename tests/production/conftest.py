"""A real Prefect API, a process work pool with a real worker, and the embedded Gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.server.api import collections_data

from daskenv_lab.flows.api import prefect_api
from tests.waiting import until

POOL = "here"


def make_pool(kind: str, name: str | None = None) -> str:
    """Make a work pool as Prefect's own page makes it, from the template that Prefect ships."""
    view = Path(collections_data.__path__[0]) / "views" / "aggregate-worker-metadata.json"
    workers = {k: v for each in json.loads(view.read_text()).values() for k, v in each.items()}
    template = workers[kind]["default_base_job_configuration"]
    chosen = name or f"pool-{kind}"
    pool = WorkPoolCreate(name=chosen, type=kind, base_job_template=template)
    with get_client(sync_client=True) as client:
        client.create_work_pool(pool, overwrite=True)
    return chosen


@pytest.fixture(scope="session")
def api(state_dir: Path) -> Iterator[str]:
    """Give the address of the local Prefect API, and use it."""
    with prefect_api() as url:
        yield url
        # What is still to be told at the end of the process would find no API any more.
        EventsWorker.drain_all()
        APILogWorker.drain_all(timeout=10)


@pytest.fixture(scope="session")
def pool(api: str) -> str:
    """Give the name of a work pool whose flow runs are processes."""
    return make_pool("process", POOL)


@pytest.fixture(scope="session")
def worker(
    api: str, pool: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real worker of that pool."""
    log = tmp_path_factory.mktemp("worker") / "log"
    variables = {
        **os.environ,
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=variables, stdout=out, stderr=out, cwd=log.parent)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture
def ended(api: str) -> Callable[..., FlowRun]:
    """Give a function that waits for a flow run's end."""

    def wait(flow_run_id: UUID, *, seconds: float = 400) -> FlowRun:
        with get_client(sync_client=True) as client:

            def final() -> FlowRun | None:
                run = client.read_flow_run(flow_run_id)
                return run if run.state and run.state.is_final() else None

            return until(final, seconds, every=0.3)

    return wait
