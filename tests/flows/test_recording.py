"""What a report says of a flow run's work: its graph, its client, its tasks' use, its workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from distributed import Client, LocalCluster
from prefect import flow, task
from prefect.futures import as_completed

import daskenv_lab
from daskenv_lab import history
from daskenv_lab.flows.recording import PREFIX
from daskenv_lab.report import FlowRunReport
from daskenv_lab.tuning import Size, predict

Go = Callable[..., FlowRunReport]
MB = 1_000_000


@task
def make(seconds: float, size: int) -> bytes:
    """Wait, and give back so many bytes."""
    time.sleep(seconds)
    return bytes(size)


@task
def join(parts: list[bytes]) -> int:
    """Compute for a while, with some memory."""
    until = time.thread_time() + 0.3
    held = bytearray(80 * MB)
    held[::4096] = b"x" * len(held[::4096])
    while time.thread_time() < until:
        pass
    return sum(map(len, parts))


@pytest.fixture(scope="module")
def report(cluster: LocalCluster, api: str) -> FlowRunReport:
    """Run a diamond twice over with a pause of the flow's own in between."""

    @flow
    def diamonds(n: int) -> int:
        parts = make.map([0.2] * n, 3 * MB)
        first = join.submit(parts).result()
        time.sleep(0.4)
        return first + join.submit(parts[:2]).result()

    from daskenv_lab.flows.flow_run import run_flow

    return run_flow(diamonds, {"n": 4}, on=cluster, progress=False)


def test_the_graph(report: FlowRunReport) -> None:
    """Who takes whose result, what it weighs, and when it was sent."""
    assert report.result == 18 * MB
    runs = report.task_runs
    assert [run.task for run in runs] == ["make"] * 4 + ["join"] * 2
    assert [set(run.needs) for run in runs[4:]] == [{0, 1, 2, 3}, {0, 1}]
    assert all(run.output_bytes and run.output_bytes > 3 * MB for run in runs[:4])
    assert runs[4].input_bytes == sum(run.output_bytes or 0 for run in runs[:4])
    sent = [run.submitted for run in runs]
    assert None not in sent
    assert sent == sorted(sent, key=lambda at: at or 0)
    assert 0 < (sent[0] or 0) < (sent[5] or 0) < report.duration
    # Four results on two workers: whoever joins them fetches.
    assert runs[4].transfer
    assert all(run.attempts == 1 for run in runs)


def test_what_tasks_use(report: FlowRunReport) -> None:
    """Waiting takes no core; computing takes one, and what is held for a moment is seen."""
    waited, computed = report.task_runs[1], report.task_runs[5]
    assert waited.compute is not None
    assert waited.compute >= (waited.duration or 0) >= 0.2
    assert waited.cpu is not None
    assert computed.cpu is not None
    # In seconds, since a busy machine lets a task that computes wait as well.
    assert computed.cpu * (computed.duration or 0) > 0.28
    assert waited.cpu * (waited.duration or 0) < 0.15
    if os.path.exists("/proc/self/clear_refs"):  # noqa: PTH110 - Linux
        assert computed.memory is not None
        assert computed.memory > 40 * MB


def test_what_the_client_waited_for(report: FlowRunReport) -> None:
    """The flow's own pause is between two waits, and none of them covers it."""
    first = next(wait for wait in report.waits if wait.task_runs == (4,))
    second = next(wait for wait in report.waits if wait.task_runs == (5,))
    assert second.began - first.ended > 0.35
    assert all(wait.began <= wait.ended <= report.duration for wait in report.waits)
    assert report.measures == {"n": 4.0}


def test_workers(report: FlowRunReport, cluster: LocalCluster) -> None:
    """Those that were there, with what they have."""
    assert len(report.workers) == 2
    assert {worker.nthreads for worker in report.workers} == {1}
    assert all(worker.memory_limit > 0 and worker.memory > MB for worker in report.workers)
    assert all(worker.joined == 0 and worker.left is None for worker in report.workers)
    assert report.bandwidth
    with Client(cluster) as client:
        plugins = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.plugins))
    assert not [name for name in plugins if name.startswith(PREFIX)]


@pytest.mark.slow
def test_results_that_do_not_fit_are_spilled_as_foretold(api: str) -> None:
    """From a run with plenty of memory, what a worker with little would move to disk."""
    from daskenv_lab.flows.flow_run import run_flow

    @flow
    def hoard() -> int:
        held = make.map([0.05] * 12, 40 * MB)
        held.wait()
        time.sleep(2)  # a worker tells of its disk with its heartbeat
        return len(held)

    def spilled(memory: int) -> FlowRunReport:
        with LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit=memory,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster:
            return run_flow(hoard, {}, on=cluster, progress=False)

    plenty, little = spilled(4000 * MB), spilled(600 * MB)
    assert (plenty.ok, little.ok) == (True, True)
    assert plenty.workers[0].spilled == 0 < little.workers[0].spilled
    foretold = predict(plenty, Size(n_workers=1, memory=600 * MB)).spilled
    assert 0.5 < foretold / little.workers[0].spilled < 2
    assert predict(plenty, Size(n_workers=1, memory=4000 * MB)).spilled == 0


@pytest.mark.slow
def test_workers_that_come_by_the_load(api: str) -> None:
    """How long they took from when the load asked for them."""

    @flow
    def busy() -> None:
        make.map([1.5] * 12, 10).wait()

    session = daskenv_lab.up("local", name="load", adaptive_min_workers=1, adaptive_max_workers=3)
    try:
        report = session.run(busy)
        assert report.ok
        first, *later = sorted(report.workers, key=lambda worker: worker.joined)
        assert (first.joined, first.startup) == (0.0, None)
        assert later
        for worker in later:
            assert worker.startup is not None
            assert 0 < worker.startup <= worker.joined
    finally:
        session.down()


def test_it_is_kept(report: FlowRunReport) -> None:
    """The whole record comes back from the state folder."""
    (kept,) = [one for one in history.last(50) if one.flow_run_id == report.flow_run_id]
    assert kept == report


def test_batches(go: Go) -> None:
    """The task runs of a batch are one Dask task, whose use stands with the first."""

    @flow
    def batched() -> list[Any]:
        return daskenv_lab.map(make, [0.01] * 6, [10] * 6, batch=3).result()

    runs = go(batched).task_runs
    assert [run.batch for run in runs] == [0, 0, 0, 3, 3, 3]
    assert [run.compute is None for run in runs] == [False, True, True] * 2


def test_results_in_the_order_in_which_they_come(go: Go) -> None:
    """What `as_completed` waits for is known as well."""

    @flow
    def racing() -> int:
        total = 0
        for future in as_completed([make.submit(0.5, 10), make.submit(0.1, 20)]):
            total = total * 100 + len(future.result())
        return total

    report = go(racing)
    assert report.result == 2010
    waited = [wait for wait in report.waits if wait.ended - wait.began > 0.05]
    assert [wait.task_runs for wait in waited][:2] == [(1,), (0,)]


def test_a_failed_run_has_its_record(go: Go) -> None:
    """Task runs that failed, and those that never started, are told as well."""

    @task
    def fail() -> None:
        raise ValueError("on purpose")

    @flow
    def failing() -> None:
        make.submit(0.0, 10, wait_for=[fail.submit()]).wait()

    report = go(failing)
    failed, waiting = report.task_runs
    assert failed.state == "Failed"
    assert failed.duration is not None
    assert waiting.state == "NotReady"
    assert waiting.needs == (0,)
