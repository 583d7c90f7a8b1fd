"""Flows whose workers have no way to the API: all that tasks need of it goes through the relay."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster, Security
from prefect import Flow, flow, get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.settings import PREFECT_API_KEY, temporary_settings

from daskenv_lab.flows.flow_run import run_flow
from daskenv_lab.flows.relay.route import route_for
from daskenv_lab.report import FlowRunReport

from .conftest import KEY

NET = "10.213.77"
"""The addresses of the wire between this machine and the workers' network namespace."""

Go = Callable[..., FlowRunReport]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """Give a network namespace with a wire to this machine, and no other way out."""
    name = f"daskenv-{os.getpid()}"
    here, there = f"dv{os.getpid()}h", f"dv{os.getpid()}t"
    with contextlib.ExitStack() as undo:
        try:
            if shutil.which("ip") is None:
                raise FileNotFoundError("ip")
            _ip("netns", "add", name)
            undo.callback(_ip, "netns", "del", name)
            _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
            _ip("addr", "add", f"{NET}.1/24", "dev", here)
            _ip("link", "set", here, "up")
            _ip("-n", name, "addr", "add", f"{NET}.2/24", "dev", there)
            _ip("-n", name, "link", "set", there, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("this machine lets nobody make network namespaces here")
        yield name


@pytest.fixture(scope="module")
def far(namespace: str, security: Security, state_dir: Path) -> Iterator[LocalCluster]:
    """Give a cluster whose two workers reach the scheduler, and nothing on this machine's loopback.

    A worker that is killed is started again by its nanny.
    """
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    variables = {
        **os.environ,
        f"{tls}CA_FILE": str(security.tls_ca_file),
        f"{tls}WORKER__CERT": str(security.tls_worker_cert),
        f"{tls}WORKER__KEY": str(security.tls_worker_key),
    }
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=0, host=f"{NET}.1", security=security, dashboard_address="127.0.0.1:0"
        ) as cluster,
        contextlib.ExitStack() as undo,
    ):
        for _ in range(2):
            command = ["ip", "netns", "exec", namespace, sys.executable, "-m"]
            command += ["distributed.cli.dask_worker", cluster.scheduler_address]
            command += ["--host", f"{NET}.2", "--nthreads", "1", "--no-dashboard"]
            command += ["--local-directory", str(state_dir)]
            worker = subprocess.Popen(command, env=variables, stderr=subprocess.DEVNULL)
            undo.callback(worker.wait, 20)
            undo.callback(worker.terminate)
        with Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
        yield cluster


@pytest.fixture
def go(far: LocalCluster, api: str) -> Go:
    """Give a function that runs a flow on the far workers."""

    def go(flow: Flow[..., Any], **parameters: Any) -> FlowRunReport:
        return run_flow(flow, parameters, on=far, progress=False)

    return go


def test_workers_cannot_reach_the_api(far: LocalCluster, api: str) -> None:
    """The namespace keeps its word, and calls are relayed without being told to."""

    def try_it() -> str:
        import httpx

        try:
            return str(httpx.get(f"{api}/health", timeout=3).status_code)
        except httpx.HTTPError as error:
            return type(error).__name__

    with Client(far, set_as_default=False) as client:
        assert client.submit(try_it).result(timeout=120) == "ConnectError"
        route = route_for(client)
    assert route.relayed
    assert "cannot reach it" in route.why


@pytest.mark.slow
def test_all_that_tasks_need(go: Go, recorded: Callable[..., list[Any]]) -> None:
    """Blocks, variables, artifacts, logs, retries, slots and nested tasks work as at home."""

    @task(retries=1, retry_delay_seconds=0)
    def sometimes(marks: str) -> str:
        from pathlib import Path

        get_run_logger().warning("a word from far away")
        if not Path(marks).exists():
            Path(marks).touch()
            raise ValueError("the first time")
        return "the second time"

    @task
    def inner(x: int) -> int:
        return x + 1

    @task
    def everything(x: int) -> dict[str, Any]:
        from prefect.artifacts import create_markdown_artifact
        from prefect.blocks.system import Secret
        from prefect.concurrency.sync import concurrency
        from prefect.variables import Variable

        Secret(value="block's word").save("relay-secret", overwrite=True)
        Variable.set("relay_word", "variable's word", overwrite=True)
        create_markdown_artifact("# far", key="relay-artifact")
        with concurrency("relay-slots", occupy=1, timeout_seconds=30):
            nested = inner.submit(x).result()
        return {
            "block": Secret.load("relay-secret").get(),
            "variable": Variable.get("relay_word"),
            "nested": nested,
        }

    @flow
    def f(marks: str) -> tuple[str, dict[str, Any]]:
        return sometimes.submit(marks).result(), everything.submit(1).result()

    marks = f"/tmp/relay-{os.getpid()}-{time.time()}"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name("relay-slots", 1)
        report = go(f, marks=marks)
        Path(marks).unlink(missing_ok=True)
        assert report.error is None
        assert report.value == (
            "the second time",
            {"block": "block's word", "variable": "variable's word", "nested": 2},
        )
        runs = {t.name.rpartition("-")[0]: t for t in recorded(report.flow_run_id, 3)}
        assert {name: run.state.name for name, run in runs.items()} == {
            "sometimes": "Completed",
            "everything": "Completed",
            "inner": "Completed",
        }
        assert runs["sometimes"].run_count == 2
        assert client.read_variable_by_name("relay_word").value == "variable's word"
        assert [a.key for a in client.read_artifacts()].count("relay-artifact") == 1
        deadline = time.monotonic() + 120
        of_this_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[report.flow_run_id]))
        while "a word from far away" not in [log.message for log in client.read_logs(of_this_run)]:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.slow
def test_worker_that_dies(go: Go, recorded: Callable[..., list[Any]]) -> None:
    """A task run whose worker is killed ends Crashed at the API, and the others complete."""

    @task
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def live(x: int) -> int:
        return x

    @flow
    def f() -> list[int]:
        die.submit().wait()
        return [live.submit(x).result() for x in range(3)]

    report = go(f)
    assert report.value == [0, 1, 2]
    states = sorted(t.state.name for t in recorded(report.flow_run_id, 4))
    assert states == ["Completed", "Completed", "Completed", "Crashed"]


def test_no_key_on_workers(go: Go, far: LocalCluster) -> None:
    """The key is among no worker's settings, nor anywhere in its memory."""

    @task
    def whose() -> str:
        from prefect.settings import get_current_settings

        return repr(get_current_settings().model_dump(context={"include_secrets": True}))

    @flow
    def f() -> str:
        return whose.submit().result()

    with temporary_settings({PREFECT_API_KEY: KEY}):
        report = go(f)
    assert report.error is None
    assert KEY not in report.value
    with Client(far, set_as_default=False) as client:
        assert set(client.run(_in_memory, KEY[4:]).values()) == {0}


def _in_memory(word: str) -> int:
    """Count the places in this process's memory that hold ``pnu_`` and a word."""
    import re

    wanted = re.compile(b"pnu_" + re.escape(word.encode()))
    found = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:  # noqa: PTH123
        for line in maps:
            where, rights, *_, name = f"{line.rstrip()} ".split(" ", 5)
            if "rw" not in rights or name.strip() in ("[vvar]", "[vsyscall]"):
                continue
            start, end = (int(part, 16) for part in where.split("-"))
            memory.seek(start)
            try:
                found += len(wanted.findall(memory.read(end - start)))
            except OSError:
                continue
    return found


_in_memory.__module__ = "__main__"
