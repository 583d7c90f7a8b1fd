"""Registered flows, run by a real worker from a real API: each has a cluster of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.states import Cancelling

import daskenv_lab
from daskenv_lab import DaskCloudProviderEnvironment, DaskGatewayEnvironment, registry, rehearsal
from daskenv_lab.production import Deployment
from tests.waiting import until

# Clusters and clean processes start slowly where several tests run at once.
pytestmark = pytest.mark.timeout(600)

FLOWS = '''
    """Flows of a deployment, beside a module of their own."""

    import time
    from pathlib import Path

    from prefect import flow, task
    from prefect.context import FlowRunContext

    from daskenv_lab import DaskGatewayEnvironment
    from words import GREETING


    def by_length(parameters, provider_kwargs):
        provider_kwargs["n_workers"] = max(1, min(10, len(parameters["x"])))


    environment = DaskGatewayEnvironment("local", on_execute=by_length, worker_threads=1)


    @task
    def add_one(i: int) -> int:
        return i + 1


    @task
    def act(what: str, said: str) -> None:
        if what == "fail":
            raise ValueError("the task's own words")
        Path(said).write_text("running")
        while what == "wait":
            time.sleep(0.1)


    @flow(task_runner=environment.task_runner())
    def etl(x: list[int], said: str, what: str = "end") -> str:
        """Add one to each, and greet."""
        total = sum(add_one.map(x).result())
        seen = FlowRunContext.get().task_runner.client.scheduler_info()
        Path(said).with_suffix(".seen").write_text(f"{len(seen['workers'])} {total} {GREETING}")
        if what == "raise":
            raise RuntimeError("the flow's own words")
        act.submit(what, said).result()
        return GREETING
'''


@pytest.fixture(scope="module")
def deployed(pool: str, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Give a deployment of a flow in a file, with another module beside it."""
    folder = tmp_path_factory.mktemp("flows")
    (folder / "flows.py").write_text(textwrap.dedent(FLOWS).lstrip())
    (folder / "words.py").write_text('GREETING = "good morning"\n')
    environment = DaskGatewayEnvironment(
        "local",
        worker_threads=1,
        worker_memory="1 GiB",
        labels=["nightly", "team-a"],
        metadata={"owner": "ada", "sizes": [1, 2]},
    )
    return environment.register(
        f"{folder / 'flows.py'}:etl",
        name="nightly",
        work_pool_name=pool,
        schedule="0 6 * * *",
        parameters={"x": [1]},
        description="Each night",
    )


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Let the rehearsal answer without AWS's delays, and look that nothing is left of it."""
    rehearsal.start(latency="none")
    yield
    rehearsal.stop(timeout=120)


@pytest.fixture
def served(deployed: Deployment, api: str, tmp_path: Path) -> Iterator[str]:
    """Serve the same flow from a process of its own, and give that deployment's name."""
    command = [sys.executable, "-c", "from flows import etl; etl.serve(name='served')"]
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=deployed.path,
            env={**os.environ, "PREFECT_API_URL": api, "PREFECT_RUNNER_POLL_FREQUENCY": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 180
        while "prefect deployment run" not in (tmp_path / "serve.log").read_text():
            assert process.poll() is None, (tmp_path / "serve.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "serve.log").read_text()
            time.sleep(0.2)
        yield "etl/served"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


Go = Callable[..., tuple[FlowRun, Path]]


@pytest.fixture
def go(deployed: Deployment, worker: subprocess.Popen[bytes], tmp_path: Path) -> Go:
    """Give a function that triggers a flow run through the API."""

    def go(
        what: str, file: str = "", name: Any = deployed.id, **options: Any
    ) -> tuple[FlowRun, Path]:
        said = tmp_path / f"{file or what}.said"
        given = {"x": [1, 2], "said": str(said), "what": what}
        made: Any = run_deployment(name, parameters=given, timeout=0, **options)
        return made, said

    return go


def _running(run: FlowRun, said: Path) -> psutil.Process:
    """Wait until a flow run's task runs, and give its process."""
    deadline = time.monotonic() + 400
    while not said.exists():
        assert time.monotonic() < deadline, _state(run.id)
        time.sleep(0.2)
    with get_client(sync_client=True) as client:
        where = client.read_flow_run(run.id).infrastructure_pid
    return psutil.Process(int(str(where).rpartition(":")[2]))


def _state(flow_run_id: UUID) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run_id).state


def _clusters(run: FlowRun) -> list[str]:
    name = f"flow-run-{run.id}"
    return [str(i.name) for i in daskenv_lab.ls() if i.name == name] + [
        n for n in registry.names() if n == name
    ]


def test_what_the_api_knows_of_it(deployed: Deployment) -> None:
    """Labels are tags, metadata are labels, and the schedule and parameters are there."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment(deployed.id)
    assert deployed.name == "etl/nightly"
    assert (found.entrypoint, found.description) == ("flows.py:etl", "Each night")
    assert found.tags == ["nightly", "team-a"]
    assert {"owner": "ada", "sizes": "[1, 2]"}.items() <= found.labels.items()
    assert found.parameters == {"x": [1]}
    assert [s.schedule.cron for s in found.schedules] == ["0 6 * * *"]
    assert found.parameter_openapi_schema["required"] == ["x", "said"]


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_runs_beside_each_other(go: Go, served: str, ended: Callable[..., FlowRun]) -> None:
    """Each has a cluster of the size that on_execute said; whatever it ends in, none is left.

    One is run by `flow.serve`, and one is told to use a rehearsal of Fargate.
    """
    fargate = DaskCloudProviderEnvironment("fargate", rehearse=True, worker_cpu=256, worker_mem=512)
    written = {"env": {"DASKENV_ENVIRONMENT": json.dumps(fargate.to_dict())}}
    runs = {what: go(what) for what in ("end", "fail", "raise")}
    runs["served"] = go("end", "served", served)
    runs["fargate"] = go("end", "fargate", job_variables=written)
    states = {what: ended(run.id) for what, (run, _) in runs.items()}
    assert {what: run.state_name for what, run in states.items()} == {
        "end": "Completed",
        "fail": "Failed",
        "raise": "Failed",
        "served": "Completed",
        "fargate": "Completed",
    }
    assert "the task's own words" in str(states["fail"].state.message)
    assert "the flow's own words" in str(states["raise"].state.message)
    for run, said in runs.values():
        assert said.with_suffix(".seen").read_text() == "2 5 good morning"
        _wait_until_gone(run)


def _wait_until_gone(run: FlowRun) -> None:
    """Wait a moment for the process of a run that has ended at the API already."""
    until(lambda: not _clusters(run), 240)


@pytest.mark.slow
def test_runs_that_are_stopped(go: Go, ended: Callable[..., FlowRun]) -> None:
    """One cancelled at the API, one terminated, two killed: only those leave a cluster.

    Each run is told another size from outside, and one of the killed that it ends soon by itself.
    """
    size = {"on_execute": None, "n_workers": 1}
    changes = dict.fromkeys(("cancel", "term", "kill"), size)
    changes["idle"] = {**size, "idle_timeout": "2 s"}
    runs = {
        how: go("wait", how, job_variables={"env": {"DASKENV_ENVIRONMENT": json.dumps(change)}})
        for how, change in changes.items()
    }
    processes = {how: _running(*run) for how, run in runs.items()}
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(runs["cancel"][0].id, Cancelling(), force=True)
    processes["term"].send_signal(signal.SIGTERM)
    processes["kill"].send_signal(signal.SIGKILL)
    processes["idle"].send_signal(signal.SIGKILL)
    states = {how: ended(run.id).state_name for how, (run, _) in runs.items()}
    assert states == {
        "cancel": "Cancelled",
        "term": "Crashed",
        "kill": "Crashed",
        "idle": "Crashed",
    }
    for _, said in runs.values():
        assert said.with_suffix(".seen").read_text() == "1 5 good morning"
    _wait_until_gone(runs["cancel"][0])
    _wait_until_gone(runs["term"][0])
    killed, idle = (f"flow-run-{runs[how][0].id}" for how in ("kill", "idle"))
    until(lambda: _status(idle) == "gone", 240)
    assert _status(killed) == "running"
    reaped: set[str | None] = set()
    # The tasks of the one are still there until its scheduler misses the client.
    until(lambda: reaped.update(i.name for i in daskenv_lab.reap(idle=0)) or len(reaped) == 2, 240)
    assert reaped == {killed, idle}
    assert _status(killed) is _status(idle) is None


def _status(name: str) -> str | None:
    return next((i.status for i in daskenv_lab.ls() if i.name == name), None)
