"""A flow run is stopped from elsewhere, whatever its thread does at that moment."""

from __future__ import annotations

import asyncio
import hashlib
import operator
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from distributed import LocalCluster
from prefect import flow, task
from prefect.client.orchestration import get_client

from daskenv_lab.flows.flow_run import run_flow
from daskenv_lab.flows.target import reach
from daskenv_lab.providers.connection import Connection
from daskenv_lab.report import FlowRunReport
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LONG = 600
CANCELLED = ("Cancelled", "Cancelled")


@task
def began(marker: str) -> str:
    """Leave a mark, once a worker is at it."""
    Path(marker).touch()
    return marker


@task
def lasts(marker: str) -> None:
    """Take long, in steps that can be interrupted."""
    Path(marker).touch()
    for _ in range(LONG * 10):
        time.sleep(0.1)


@flow
def waits_for_tasks(marker: str) -> None:
    """Wait for a result."""
    lasts.submit(marker).result()


@flow
def works_itself(marker: str) -> None:
    """Do something else than waiting for task runs."""
    began.submit(marker).result()
    for _ in range(LONG * 10):
        time.sleep(0.1)


@flow
def sleeps(marker: str) -> None:
    """Sleep in one piece."""
    began.submit(marker).result()
    time.sleep(LONG)


@flow
def begins_to_sleep(marker: str) -> None:
    """Be stopped in C code that hears no signal, and goes on to sleep without a look at them."""
    began.submit(f"{marker} of a task").result()
    Path(marker).touch()
    busy = partial(hashlib.pbkdf2_hmac, "sha256", b"a", b"b", 5_000_000)
    list(map(operator.call, [busy, partial(time.sleep, LONG)]))


@flow
async def is_a_coroutine(marker: str) -> None:
    """Sleep where it can be cancelled."""
    began.submit(marker).result()
    await asyncio.sleep(LONG)


@flow
def adds(x: list[int]) -> int:
    """Add up."""
    return sum(x)


@pytest.fixture
def connection(cluster: LocalCluster, api: str) -> Iterator[Connection]:
    """Give a connection of another kernel to the same cluster."""
    found, _ = reach(cluster)
    yield found
    found.close()


def stop_when(path: Path, connection: Connection) -> threading.Thread:
    """Stop the cluster's flow runs as soon as a file is there."""

    def work() -> None:
        until(path.exists)
        connection.stop_flow_runs()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def states(report: FlowRunReport) -> tuple[str, str | None]:
    """Give the state that a report tells, and the API's."""
    with get_client(sync_client=True) as client:
        told = client.read_flow_run(UUID(report.flow_run_id))
    assert told.state is not None
    return report.state, told.state.name


@pytest.mark.parametrize(
    "stopped", [waits_for_tasks, works_itself, sleeps, begins_to_sleep, is_a_coroutine]
)
def test_in_the_main_thread(
    stopped: Any, cluster: LocalCluster, connection: Connection, tmp_path: Path
) -> None:
    """As in a cell that runs: the call comes back with a report, and the slots are free."""
    thread = stop_when(tmp_path / "began", connection)
    given = {"marker": str(tmp_path / "began")}
    report = run_flow(stopped, given, on=cluster, progress=False)
    thread.join(120)
    assert states(report) == CANCELLED
    assert type(report.error).__name__ == "CancelledRun"
    assert run_flow(adds, {"x": [1, 2]}, on=cluster, progress=False).result == 3


@pytest.mark.parametrize("stopped", [waits_for_tasks, works_itself, is_a_coroutine])
def test_in_another_thread(
    stopped: Any, cluster: LocalCluster, connection: Connection, tmp_path: Path
) -> None:
    """As from the panel, which runs flows in a thread of their own."""
    reports: list[FlowRunReport] = []
    given = {"marker": str(tmp_path / "began")}

    def work() -> None:
        reports.append(run_flow(stopped, given, on=cluster, progress=False))

    running = threading.Thread(target=work)
    running.start()
    stopping = stop_when(tmp_path / "began", connection)
    stopping.join(120)
    running.join(120)
    assert states(reports[0]) == CANCELLED


def test_two_runs_at_once_both_end(
    cluster: LocalCluster, connection: Connection, tmp_path: Path
) -> None:
    """Whatever runs on the cluster is meant; nothing that begins later is."""
    reports: list[FlowRunReport] = []
    marks = [tmp_path / "one", tmp_path / "two"]

    def work(marker: Path) -> None:
        given = {"marker": str(marker)}
        reports.append(run_flow(waits_for_tasks, given, on=connection, progress=False))

    threads = [threading.Thread(target=work, args=(mark,)) for mark in marks]
    for thread in threads:
        thread.start()
    until(lambda: all(mark.exists() for mark in marks))
    connection.stop_flow_runs()
    for thread in threads:
        thread.join(120)
    assert [states(report) for report in reports] == [CANCELLED, CANCELLED]
    assert run_flow(adds, {"x": [1]}, on=connection, progress=False).ok


def test_nothing_runs(connection: Connection, go: Callable[..., FlowRunReport]) -> None:
    """Stopping where nothing runs is no error, and stops nothing that comes after."""
    connection.stop_flow_runs()
    assert go(adds, x=[1, 2, 3]).result == 6
