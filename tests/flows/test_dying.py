"""Flow runs while a worker or the scheduler dies, memory runs out, or another kernel runs too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster
from prefect import flow, task
from prefect.futures import wait

import daskenv_lab
from daskenv_lab.flows.events import feed_of
from daskenv_lab.flows.flow_run import run_flow
from daskenv_lab.flows.future import DaskFuture
from daskenv_lab.flows.prefect3 import current_runner
from daskenv_lab.flows.room import TOPIC

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Go = Callable[..., Any]

KERNEL = """
import json, sys
from prefect import flow, task
from daskenv_lab.flows.flow_run import run_flow
from daskenv_lab.flows.room import TOPIC

@task
def add(x, n):
    return x + n

@flow
def f(n):
    return sum(add.map(list(range(40)), n).result())

for n in range(int(sys.argv[2]), int(sys.argv[2]) + 3):
    report = run_flow(f, {"n": n}, on=sys.argv[1], progress=False)
    print(json.dumps([report.result, str(report.flow_run_id), report.states]), flush=True)
"""


def test_a_worker_killed_during_a_map(
    own: LocalCluster, api: str, recorded: Go, tmp_path: Path
) -> None:
    """Calls of the dead worker run again on the others, and all are recorded as Completed."""

    @task(retries=1, retry_delay_seconds=0.1)
    def slow(x: int) -> int:
        time.sleep(0.1)
        if x % 10 == 0 and not (tmp_path / f"tried-{x}").exists():
            (tmp_path / f"tried-{x}").touch()
            raise ValueError("as asked")
        return x

    @flow
    def f() -> list[int]:
        futures = daskenv_lab.map(slow, range(40), batch=4)
        futures[0].wait()
        os.kill(own.workers[0].pid, signal.SIGKILL)
        return futures.result()

    report = run_flow(f, {}, on=own, progress=False)
    assert report.result == list(range(40))
    assert {t.state_name for t in recorded(report.flow_run_id, 40)} == {"Completed"}


@pytest.mark.parametrize("again", [False, True])
def test_workers_killed_before_they_told_the_api(
    own: LocalCluster, api: str, recorded: Go, again: bool
) -> None:
    """What many small calls did is told by the client, or by workers on which they run again."""

    @task(tags=["small"])
    def small(x: int) -> int:
        return x

    @flow
    def f() -> list[int]:
        results = small.map(range(150)).result()
        for nanny in own.workers.values():
            nanny.auto_restart = again
            os.kill(nanny.pid, signal.SIGKILL)
        time.sleep(1)
        return results

    report = run_flow(f, {}, on=own, progress=False)
    assert report.result == list(range(150))
    runs = recorded(report.flow_run_id, 150)
    assert {run.state_name for run in runs} == {"Completed"}
    assert all(run.start_time and run.end_time and run.tags == ["small"] for run in runs)


def test_results_that_nobody_fetched_of_a_worker_that_is_killed(
    own: LocalCluster, api: str, recorded: Go
) -> None:
    """Their copies live on, so that nothing runs again, and the API is told all the same."""

    @task
    def make(x: int) -> list[int]:
        return [x]

    @task
    def use(x: list[int]) -> int:
        return x[0]

    @flow
    def f() -> int:
        one = min(own.scheduler_info["workers"])
        client = current_runner().client
        made = make.map(range(60))
        made.wait()
        keys = [future.wrapped_future for future in made]
        client.replicate(keys)
        pid = client.run(os.getpid, workers=[one])[one]
        for nanny in own.workers.values():
            nanny.auto_restart = False
        os.kill(pid, signal.SIGKILL)
        while one in client.scheduler_info()["workers"]:
            time.sleep(0.1)
        return sum(use.map(made).result())

    report = run_flow(f, {}, on=own, progress=False)
    assert report.result == sum(range(60))
    runs = recorded(report.flow_run_id, 120)
    assert len(runs) == 120
    assert {run.state_name for run in runs} == {"Completed"}


def test_a_task_that_kills_its_worker_and_its_input(
    own: LocalCluster, api: str, recorded: Go
) -> None:
    """It ends Crashed, and not as one whose input was not ready."""

    @task
    def load() -> bytes:
        return b"x" * 10_000

    @task
    def crunch(data: bytes) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @flow
    def f() -> list[str]:
        state = crunch.submit(load.submit(), return_state=True)
        return [state.name, state.message]

    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        report = run_flow(f, {}, on=own, progress=False)
    name, message = report.result
    assert name == "Crashed"
    assert "the worker died while it ran this task" in message
    states = {t.name[:4]: t.state_name for t in recorded(report.flow_run_id, 2)}
    assert states == {"load": "Completed", "crun": "Crashed"}


def test_a_retired_worker_tells_the_api_before_it_closes(
    own: LocalCluster, api: str, recorded: Go
) -> None:
    """So that the client, which hears of it, need not."""

    @task
    def small(x: int) -> int:
        return x

    @flow
    def f() -> bool:
        results = small.map(range(60)).result()
        client = current_runner().client
        (retired,) = client.retire_workers(list(client.scheduler_info()["workers"])[:1])
        deadline = time.monotonic() + 120
        while retired not in feed_of(client).left and time.monotonic() < deadline:
            time.sleep(0.1)
        return results == list(range(60)) and retired in feed_of(client).left

    report = run_flow(f, {}, on=own, progress=False)
    assert report.result is True
    assert {run.state_name for run in recorded(report.flow_run_id, 60)} == {"Completed"}


def test_the_scheduler_killed_during_a_run(api: str, recorded: Go, tmp_path: Path) -> None:
    """The run ends soon, in a sentence, and the API has a final state for each task run."""

    @task
    def long(x: int) -> int:
        for _ in range(12000):
            time.sleep(0.05)
        return x

    @task
    def quick() -> int:
        return 1

    with processes(tmp_path) as (scheduler, address):

        @flow
        def f() -> list[int]:
            quick.submit().wait()
            futures = long.map([1, 2, 3])
            deadline = time.monotonic() + 120
            while "long" not in started() and time.monotonic() < deadline:
                time.sleep(0.1)
            scheduler.kill()
            return futures.result()

        def started() -> set[str]:
            with Client(address, set_as_default=False) as client:
                told = [told for _, told in client.get_events(TOPIC) if "task_runs" in told]
            return {one["task"] for news in told for one in news["task_runs"]}

        with dask.config.set({"daskenv.timeouts.connect": "15s"}):
            report = run_flow(f, {}, on=address, progress=False)
    assert report.error is not None
    assert "scheduler" in str(report.error)
    runs = recorded(report.flow_run_id, 4)
    states = {t.name.partition("-")[0]: t.state_name for t in runs}
    assert states.pop("quick") == "Completed"
    assert set(states.values()) <= {"Crashed", "Cancelled"}


@pytest.mark.parametrize(
    "fault",
    [
        "its worker lives",
        "its worker dies",
        "its worker dies, the client is busy",
        "its worker dies, the scheduler hangs",
        "its worker lives, the scheduler hangs",
    ],
)
def test_a_task_run_that_ended_just_before_its_scheduler_died(
    api: str, recorded: Go, tmp_path: Path, fault: str
) -> None:
    """Its worker tells how it ended, or is gone too: the API has a final state all the same."""
    futures: list[DaskFuture] = []
    # What happened to many small ones is held by their worker.
    n = 150 if fault == "its worker lives, the scheduler hangs" else 1

    @task
    def quick(_: int) -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))

    with processes(tmp_path) as (scheduler, address):

        @flow
        def f() -> None:
            futures.extend(quick.map(range(n)))
            wait(futures)
            if "dies" in fault:
                os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
            if "hangs" in fault:
                scheduler.send_signal(signal.SIGSTOP)
                return
            if "busy" in fault:
                # It sees only after the flow that the scheduler is gone.
                current_runner().client.loop.add_callback(time.sleep, 2)
                time.sleep(0.1)
            scheduler.kill()

        with dask.config.set({"daskenv.timeouts.connect": "15s"}):
            report = run_flow(f, {}, on=address, progress=False)
        told = recorded(report.flow_run_id, n)
        scheduler.kill()
        # On a busy machine the worker's last word may have come before it was killed.
        heard = "lives" in fault or futures[0].told_state is not None
        expected = {"Completed" if heard else "Crashed"}
        deadline = time.monotonic() + 60
        while {run.state_name for run in told} != expected and time.monotonic() < deadline:
            # What the worker tells as it closes takes the place of what was told in its stead.
            time.sleep(0.5)
            told = recorded(report.flow_run_id, n)
    assert {run.state_name for run in told} == expected
    assert len(told) == n


def test_two_kernels_at_once(own: LocalCluster, api: str, recorded: Go) -> None:
    """Two processes run flows on one cluster, each with its own results and task runs."""
    kernels = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", KERNEL, own.scheduler_address, str(n)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in (1, 1000)
    ]
    told = [kernel.communicate(timeout=180)[0] for kernel in kernels]
    assert [kernel.returncode for kernel in kernels] == [0, 0]
    for lines, first in zip(told, (1, 1000), strict=True):
        for n, line in enumerate(lines.splitlines(), first):
            result, flow_run_id, states = json.loads(line)
            assert result == sum(range(40)) + 40 * n
            assert states == {"Completed": 40}
            assert len(recorded(flow_run_id, 40)) == 40


def test_a_result_larger_than_memory(api: str, recorded: Go) -> None:
    """The task run ends Crashed, the sentence says what may be the reason, and others go on."""

    @task
    def small() -> int:
        return 1

    @task
    def huge() -> int:
        return len(b"x" * 3 * 10**9)

    @flow
    def f() -> list[Any]:
        state = huge.submit()
        state.wait()
        return [small.submit().result(), state.state.name, state.state.message]

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit="700 MB",
            dashboard_address="127.0.0.1:0",
        ) as tight,
    ):
        report = run_flow(f, {}, on=tight, progress=False)
    one, state, message = report.result
    assert (one, state) == (1, "Crashed")
    assert "memory" in message
    assert sorted(t.state_name for t in recorded(report.flow_run_id, 2)) == ["Completed", "Crashed"]


@contextmanager
def processes(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start a scheduler and a worker, each by itself, and give the first and its address."""
    where = folder / "scheduler.json"
    dask_cli = [sys.executable, "-m", "dask"]
    scheduler_options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker_options = ["--nthreads", "1", "--no-dashboard", "--death-timeout", "20"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [*dask_cli, "scheduler", "--scheduler-file", str(where), *scheduler_options], **quiet
    )
    worker = subprocess.Popen(
        [*dask_cli, "worker", "--scheduler-file", str(where), *worker_options], **quiet
    )
    try:
        deadline = time.monotonic() + 120
        while not where.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield scheduler, json.loads(where.read_text())["address"]
    finally:
        scheduler.send_signal(signal.SIGCONT)
        for process in (worker, scheduler):
            process.terminate()
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(120)
