"""A cluster for each flow run, made by the environment's task runner in this process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run

import daskenv_lab
from daskenv_lab import DaskCloudProviderEnvironment, DaskGatewayEnvironment, registry
from daskenv_lab.environments import Environment
from daskenv_lab.errors import EnvironmentValueError, FlowParameterError, ProviderError

# Clusters and clean processes start slowly where several tests run at once.
pytestmark = pytest.mark.timeout(600)

ENVIRONMENT = DaskGatewayEnvironment("local", n_workers=1)


@task
def add_one(x: int) -> int:
    """Stand for some work."""
    return x + 1


@task
def place() -> str:
    """Say which cluster runs this."""
    import distributed

    return str(distributed.get_worker().scheduler.address)


@task
def fail() -> None:
    """Fail."""
    raise ValueError("the task's own words")


def _nothing_left() -> None:
    assert [i.name for i in daskenv_lab.ls() if str(i.name).startswith("flow-run-")] == []
    assert [name for name in registry.names() if name.startswith("flow-run-")] == []


def test_a_run_sizes_its_own_cluster(api: str, caplog: pytest.LogCaptureFixture) -> None:
    """Hooks come in their order, the size is the hook's, and nothing is left."""
    told: list[Any] = []

    def by_length(parameters: dict[str, Any], provider_kwargs: dict[str, Any]) -> None:
        told.append(("execute", parameters["x"], dict(provider_kwargs)))
        provider_kwargs["n_workers"] = max(1, min(10, len(parameters["x"])))
        provider_kwargs["worker_threads"] = 2

    environment = DaskGatewayEnvironment(
        "local",
        adaptive_max_workers=3,
        worker_threads=1,
        on_start=lambda: told.append("start"),
        on_execute=by_length,
        on_exit=lambda: told.append(("exit", [i.name for i in daskenv_lab.ls()])),
    )
    before = environment.fingerprint

    @flow
    def sized(x: list[int]) -> tuple[int, str]:
        total = sum(add_one.map(x).result())
        [name] = [n for n in registry.names() if n.startswith("flow-run-")]
        asked = registry.known(name).environment
        return total, repr(asked)

    # A local cluster of Dask's that lives on from other tests has raised the handler's level.
    with caplog.at_level("INFO", logger="prefect.flow_runs"):
        total, asked = environment.execute(sized, {"x": [1, 2]})
    assert total == 5
    assert "n_workers=2" in asked
    assert "worker_threads=2" in asked
    assert "idle_timeout='10 minutes'" in asked
    assert "adaptive" not in asked
    sizes = {"adaptive_min_workers": 1, "adaptive_max_workers": 3, "worker_threads": 1}
    assert told == ["start", ("execute", [1, 2], sizes), ("exit", [])]
    assert environment.fingerprint == before
    assert "Dask cluster created. Scheduler address: " in caplog.text
    _nothing_left()


def test_nested_flows_share_or_have_their_own(api: str) -> None:
    """A nested flow with an equal environment shares the cluster; another has its own.

    The other one is made by a cluster class of Dask's own.
    """
    other = DaskCloudProviderEnvironment("distributed.LocalCluster", n_workers=1)

    @flow(task_runner=DaskGatewayEnvironment("local", n_workers=1).task_runner())
    def alike() -> str:
        found = place.submit().result()
        # The cluster is the parent's, though the nested flow has used it first.
        assert f"flow-run-{flow_run.root_flow_run_id}" in registry.names()
        return found

    @flow(task_runner=other.task_runner())
    async def apart() -> str:
        return place.submit().result()

    @flow(task_runner=ENVIRONMENT.task_runner())
    async def parent() -> list[str]:
        first = alike()  # before the parent has used the cluster itself
        own = place.submit().result()
        return [first, own, await apart(), place.submit().result()]

    first, own, another, again = asyncio.run(parent())
    assert first == own == again != another
    _nothing_left()


def test_a_failure_is_the_flows_own(api: str) -> None:
    """What a task raises ends the run, and takes the cluster along."""

    @flow
    def task_fails() -> None:
        fail.submit().result()

    with pytest.raises(ValueError, match="the task's own words"):
        ENVIRONMENT.execute(task_fails)
    _nothing_left()


@pytest.mark.parametrize("which", ["on_start", "on_execute"])
def test_a_hook_that_fails_ends_the_run(api: str, which: str) -> None:
    """Its own message is the run's, once, and the last hook is called all the same."""
    told: list[str] = []

    def broken(*_: Any) -> None:
        told.append(which)
        raise LookupError(f"{which} has its own words")

    environment = DaskGatewayEnvironment(
        "local", n_workers=1, on_exit=lambda: told.append("exit"), **{which: broken}
    )

    @flow
    def f() -> int:
        try:
            add_one.submit(1)
        except LookupError:
            return add_one.submit(2).result()
        return 0

    with pytest.raises(LookupError, match=f"{which} has its own words"):
        environment.execute(f)
    assert told == [which, "exit"]
    _nothing_left()


def test_a_hook_that_spoils_the_settings(api: str) -> None:
    """What the hook made of them is checked as if it had been written by hand."""

    def spoil(_: Any, provider_kwargs: dict[str, Any]) -> None:
        provider_kwargs["n_workers"] = -1

    environment = DaskGatewayEnvironment("local", on_execute=spoil)

    @flow
    def f() -> None:
        add_one.submit(1)

    with pytest.raises(EnvironmentValueError, match="n_workers=-1"):
        environment.execute(f)


def test_no_tasks_no_cluster(api: str) -> None:
    """A flow run that submits nothing starts nothing."""
    told: list[str] = []
    environment = DaskGatewayEnvironment("local", on_start=lambda: told.append("start"))

    @flow
    def empty() -> int:
        return 7

    assert environment.execute(empty) == 7
    assert told == []


def test_a_cluster_that_does_not_start(api: str) -> None:
    """The run ends with the provider's sentence, and no second attempt is made."""
    environment = DaskGatewayEnvironment("local", n_workers=1, colour="red")

    @flow
    def f() -> PrefectFuture[int]:
        return add_one.submit(1)

    with pytest.raises(ProviderError, match="no cluster option 'colour'"):
        environment.execute(f)
    _nothing_left()


def test_parameters_are_checked_first(api: str) -> None:
    """Wrong parameters start nothing."""

    @flow
    def f(x: int) -> int:
        return add_one.submit(x).result()

    with pytest.raises(FlowParameterError, match="no parameter 'y'"):
        ENVIRONMENT.execute(f, {"y": 1})


def test_a_time_limit_ends_the_run_and_the_cluster(api: str) -> None:
    """A flow that takes too long leaves nothing either; the start counts."""

    @task
    def long() -> None:
        for _ in range(600):
            time.sleep(0.1)

    @flow(timeout_seconds=30)
    def f() -> None:
        long.submit().result()

    with pytest.raises(TimeoutError):
        ENVIRONMENT.execute(f)
    _nothing_left()


SCRIPT = """
    import os, sys, time
    from pathlib import Path
    from prefect import flow, task
    from daskenv_lab import DaskGatewayEnvironment

    said = Path(sys.argv[1])
    environment = DaskGatewayEnvironment(
        "local", n_workers=1, on_start=lambda: said.write_text("started"),
        on_exit=lambda: said.write_text("exited"),
    )

    @task
    def long() -> None:
        said.write_text("running")
        for _ in range(600):
            time.sleep(0.1)

    @flow(task_runner=environment.task_runner())
    def f() -> None:
        long.submit().result()

    if __name__ == "__main__":
        f()
"""


@pytest.mark.parametrize(("when", "how"), [("started", signal.SIGTERM), ("running", signal.SIGINT)])
def test_a_signal_takes_the_cluster_down(
    api: str, tmp_path: Path, when: str, how: signal.Signals
) -> None:
    """Also one that comes while the cluster is being started."""
    script, said = tmp_path / "script.py", tmp_path / "said"
    script.write_text(textwrap.dedent(SCRIPT))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(script), str(said)],
            env={**os.environ, "PREFECT_API_URL": api},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 300
        while not (said.exists() and said.read_text() == when):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(how)
        process.wait(120)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode != 0
    assert said.read_text() == "exited", (tmp_path / "log").read_text()
    _nothing_left()


def test_the_environment_is_changed_from_outside(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Prefect Variable, a process variable and a parameter change it, in this order."""
    from prefect.variables import Variable

    Variable.set("dask_of_f", {"worker_threads": 2, "n_workers": 3}, overwrite=True)  # type: ignore[unused-coroutine]
    monkeypatch.setenv("DASKENV_ENVIRONMENT_VARIABLE", "dask_of_f")
    monkeypatch.setenv(
        "DASKENV_ENVIRONMENT", json.dumps({"n_workers": 2, "worker_memory": "1 GiB"})
    )

    @flow
    def f(daskenv_environment: dict[str, Any] | None = None) -> str:
        add_one.submit(1).result()
        [name] = [n for n in registry.names() if n.startswith("flow-run-")]
        return repr(registry.known(name).environment)

    asked = ENVIRONMENT.execute(f, {"daskenv_environment": {"n_workers": 1}})
    assert "n_workers=1" in asked
    assert "worker_threads=2" in asked
    assert "worker_memory='1 GiB'" in asked


@pytest.mark.parametrize("written", ["{", "[1]", '{"n_workrs": 1}', '{"kind": "moon"}', '"x"'])
def test_a_change_that_is_wrong(api: str, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """It ends the run with a sentence that names the place and the reason."""
    monkeypatch.setenv("DASKENV_ENVIRONMENT", written)

    @flow
    def f() -> None:
        add_one.submit(1)

    with pytest.raises(EnvironmentValueError, match=r"DASKENV_ENVIRONMENT.*\(.*\); give"):
        ENVIRONMENT.execute(f)
    _nothing_left()


def test_task_runs_are_recorded_before_the_cluster_goes(api: str) -> None:
    """Nothing stays Running at the API, though the workers that tell are gone."""

    @flow
    def f() -> str:
        add_one.map(range(60)).result()
        return str(flow_run.id)

    run = ENVIRONMENT.execute(f)
    chosen = {"flow_run_id": {"any_": [run]}, "state": {"type": {"any_": ["COMPLETED"]}}}
    deadline = time.monotonic() + 180
    with get_client(sync_client=True) as client:
        while True:
            counted = client.request("POST", "/task_runs/count", json={"task_runs": chosen}).json()
            if counted == 60:
                return
            assert time.monotonic() < deadline, counted
            time.sleep(0.5)


def test_what_is_pickled_holds_no_secret() -> None:
    """A served flow is pickled with its runner; a secret is then known by its variable."""
    environment = DaskGatewayEnvironment(
        "https://gateway.example.org", {"type": "basic", "username": "ada", "password": "hunter2"}
    )
    pickled = cloudpickle.dumps(environment.task_runner())
    assert b"hunter2" not in pickled
    assert cloudpickle.loads(pickled) == environment.task_runner()


def test_equal_runners() -> None:
    """Two runners of equal environments are equal, and say what they are made from."""
    made: Environment = DaskGatewayEnvironment("local", n_workers=1)
    assert made.task_runner() == ENVIRONMENT.task_runner()
    assert made.replace(n_workers=2).task_runner() != ENVIRONMENT.task_runner()
    assert "n_workers=1" in repr(made.task_runner())
