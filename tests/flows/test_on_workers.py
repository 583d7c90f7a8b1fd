"""What tasks can do on workers: other clients, time limits, large contexts, bare installations."""

from __future__ import annotations

import importlib
import random
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest
from prefect import flow, get_run_logger, task
from prefect.futures import as_completed
from prefect_dask import get_dask_client

import daskenv_lab
from daskenv_lab.flows.flow_run import run_flow

Go = Callable[..., Any]

BLOCK = """
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "daskenv_lab":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Block())
"""


@task
def total(n: int) -> int:
    """Add numbers up on the whole cluster, from inside a task, as prefect-dask's users do."""
    with get_dask_client() as client:
        return int(client.submit(sum, client.map(abs, range(n))).result(timeout=120))


@flow
def through_clients(n: int) -> int:
    """Use a client of the cluster in a task and in the flow."""
    inside = total.submit(n).result()
    with get_dask_client() as client:
        return inside + int(client.submit(sum, range(n)).result(timeout=120))


def test_get_dask_client_reaches_the_same_cluster_under_tls(go: Go) -> None:
    """In a task and in a flow prefect-dask's client connects with the cluster's credentials."""
    assert go(through_clients, n=10).result == 90


@pytest.mark.slow
def test_flows_on_the_embedded_gateway(api: str) -> None:
    """By name and by session: tasks, their clients and children work behind a Gateway too."""
    session = daskenv_lab.up("local", name="flows", n_workers=2)
    try:
        report = session.run(through_clients, n=10)
        assert report.result == 90
        assert report.cluster == "flows"
        again = daskenv_lab.run(through_clients, _on="flows", _progress=False, n=4)
        assert again.result == 12
    finally:
        session.down()


def test_a_tasks_time_limit(go: Go) -> None:
    """A task that takes longer than its `timeout_seconds` ends TimedOut."""

    @task(timeout_seconds=0.5)
    def slow() -> None:
        for _ in range(100):
            time.sleep(0.05)

    @flow
    def limited() -> str:
        return str(slow(return_state=True).name)

    @flow
    def submitted() -> str:
        future = slow.submit()
        future.wait()
        return str(future.state.name)

    assert go(limited).result == "TimedOut"
    assert go(submitted).result == "TimedOut"


def test_a_large_context_travels(go: Go) -> None:
    """A flow whose parameters are larger than what travels with each call runs all the same."""

    @task
    def length(part: int) -> int:
        get_run_logger().info("part %s", part)
        return part

    @flow
    def large(text: str) -> int:
        return len(text) + sum(length.map(range(4)).result())

    # Not compressible, and below the half MiB that Prefect's API takes.
    noise = "".join(random.choices(string.ascii_letters + string.digits, k=200_000))
    assert go(large, text=noise).result == 200_006


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[str]:
    """Give the address of a scheduler that, like its worker, cannot import daskenv_lab."""
    (tmp_path / "block.py").write_text(BLOCK)
    started: list[subprocess.Popen[bytes]] = []

    def start(module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments]
        command += ["--preload", str(tmp_path / "block.py"), "--dashboard-address", "127.0.0.1:0"]
        started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path))

    try:
        where = tmp_path / "scheduler.json"
        start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(where)
        )
        start("dask_worker", "--scheduler-file", str(where), "--nthreads", "2", "--no-nanny")
        deadline = time.monotonic() + 120
        while not where.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with distributed.Client(scheduler_file=str(where), set_as_default=False) as client:
            client.wait_for_workers(1, timeout=120)
            yield client.scheduler.address
    finally:
        for process in started:
            process.terminate()
            process.wait(120)


@pytest.mark.slow
def test_workers_need_not_have_this_package(bare: str, api: str) -> None:
    """On a scheduler and a worker without daskenv_lab, flows with nested tasks run."""

    @task
    def has_package() -> bool:
        try:
            import daskenv_lab  # noqa: F401
        except ModuleNotFoundError:
            return False
        return True

    @task
    def parent(x: int) -> int:
        return child.submit(x).result() + 1

    @task
    def child(x: int) -> int:
        return x * 2

    @flow
    def nested(n: int) -> tuple[bool, list[int]]:
        return has_package.submit().result(), parent.map(range(n)).result()

    report = run_flow(nested, {"n": 3}, on=bare, progress=False)
    assert report.result == (False, [1, 3, 5])


@task
def grow(x: int) -> int:
    """Add one."""
    return x + 1


@task
def parent_of_many(n: int) -> int:
    """Wait for many children in each of Prefect's ways."""
    first = grow.map(range(n)).result()
    second = [future.result() for future in as_completed(grow.map(range(n)))]
    return sum(first) + sum(second)


def test_parents_wait_for_mapped_children_on_few_slots(go: Go) -> None:
    """Three parents on two slots, each waiting for a whole list, all finish."""

    @flow
    def family() -> list[int]:
        return list(parent_of_many.map([2, 2, 2]).result())

    assert go(family).result == [6, 6, 6]


def test_a_module_next_to_the_flow_travels(go: Go, tmp_path: Path) -> None:
    """A file that is imported, not installed, reaches workers, and so does its next version."""
    sys.path.insert(0, str(tmp_path))
    file = tmp_path / "beside_the_notebook.py"
    file.write_text("def answer():\n    return 41\n")
    try:
        beside = importlib.import_module("beside_the_notebook")

        @task
        def ask() -> int:
            return int(beside.answer())

        @flow
        def asks() -> int:
            return ask.submit().result()

        asks.fn.__globals__["beside"] = beside
        assert go(asks).result == 41
        file.write_text("def answer():\n    return 40 + 2\n")
        assert go(asks).result == 42
    finally:
        asks.fn.__globals__.pop("beside", None)
        sys.path.remove(str(tmp_path))
        sys.modules.pop("beside_the_notebook", None)
