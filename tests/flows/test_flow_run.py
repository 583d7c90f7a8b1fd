"""`run`: parameters, the report, interruptions, and what the API recorded."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster, Security
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort

from daskenv_lab.errors import FlowError, FlowParameterError
from daskenv_lab.flows import run
from daskenv_lab.flows.flow_run import run_flow
from tests.waiting import until

Go = Callable[..., Any]

KERNEL = """
import sys, time
from pathlib import Path
from distributed import Security
from prefect import flow, task
from daskenv_lab.flows import run
from daskenv_lab.flows.target import reach

folder = Path(sys.argv[2])

@task
def long():
    for _ in range(12000):
        time.sleep(0.05)

@flow
def f():
    futures = [long.submit() for _ in range(4)]
    time.sleep(1)
    (folder / "running").touch()
    for future in futures:
        future.result()

security = Security(
    tls_ca_file=str(folder / "ca"), tls_client_cert=str(folder / "cert"),
    tls_client_key=str(folder / "key"), require_encryption=True,
)
run(f, _on=reach(sys.argv[1], security=security).connection, _progress=False)
"""


@task
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


@task
def add_all(xs: list[int]) -> int:
    """Add up."""
    return sum(xs)


@flow
def add_up(x: list[int], on: str = "") -> int:
    """Double and add up."""
    return add_all.submit(double.map(x)).result()


def test_report_of_a_run(cluster: LocalCluster, api: str) -> None:
    """The report tells the result, each task run and what the cluster did."""
    report = run(add_up, _on=cluster, _progress=False, x=[1, 2, 3], on="a parameter")
    assert report.result == 12
    assert report.states == {"Completed": 4}
    assert all(t.start and t.duration is not None and t.worker for t in report.task_runs)
    assert report.cluster_size[0][1] == 2
    assert set(report.peak_memory.values()) > {0} or min(report.peak_memory.values()) > 0
    assert report.bytes_moved > 0
    assert report.to_dict()["ok"]
    assert report.url is not None
    assert report.flow_run_id in report.url


def test_progress_hears_of_waits_and_tasks(cluster: LocalCluster, api: str) -> None:
    """A function for sentences is told how the task runs ended."""
    told: list[str] = []
    run(add_up, _on=cluster, _progress=told.append, x=[1])
    assert told[-1] == "2 of 2 task runs ended"


def test_nothing_is_written_to_stdout(
    cluster: LocalCluster, api: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default progress leaves standard output to the caller."""
    run(add_up, _on=cluster, x=[1])
    assert capsys.readouterr().out == ""


def test_wrong_parameters_are_one_paragraph(cluster: LocalCluster) -> None:
    """Missing, unknown and ill-typed parameters are told before anything starts."""
    for given in ({"x": "a"}, {}, {"x": [1], "z": 3}):
        with pytest.raises(FlowParameterError) as caught:
            run_flow(add_up, given, on=cluster)
        assert "\n" not in str(caught.value)
        assert "'add-up'" in str(caught.value)


def test_no_flow_is_said_so(cluster: LocalCluster) -> None:
    """A plain function is refused with the decorator's name."""
    with pytest.raises(FlowError, match=r"@prefect\.flow"):
        run_flow(len, {}, on=cluster)  # type: ignore[arg-type]


def test_two_runs_at_once(cluster: LocalCluster, api: str) -> None:
    """Two runs on one connection do not mix their task runs."""
    from daskenv_lab.flows.target import reach

    connection, _ = reach(cluster)
    reports: dict[int, Any] = {}

    def go(n: int) -> None:
        reports[n] = run_flow(add_up, {"x": list(range(n))}, on=connection, progress=False)

    threads = [threading.Thread(target=go, args=(n,)) for n in (3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    connection.close()
    assert reports[3].result == 6
    assert len(reports[3].task_runs) == 4
    assert reports[5].result == 20
    assert len(reports[5].task_runs) == 6


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_kernel_leaves_a_usable_cluster(
    cluster: LocalCluster, security: Security, api: str, tmp_path: Path, sent: signal.Signals
) -> None:
    """After a kernel was killed or interrupted during a run, the next run has all slots."""
    (tmp_path / "ca").write_text(security.tls_ca_file)
    (tmp_path / "cert").write_text(security.tls_client_cert)
    (tmp_path / "key").write_text(security.tls_client_key)
    command = [sys.executable, "-c", KERNEL, cluster.scheduler_address, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as kernel:
        deadline = time.monotonic() + 120
        while not (tmp_path / "running").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        kernel.send_signal(sent)
        assert kernel.wait(120) != 0
    assert run(add_up, _on=cluster, _progress=False, x=[1, 2]).result == 6
    with get_client(sync_client=True) as client:
        (left,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=2)[1:]
        ended = left.state
        assert ended is not None
        assert ended.is_crashed() or ended.is_cancelled(), ended
        until(
            lambda: (
                {t.state_name for t in client.read_task_runs() if t.flow_run_id == left.id}
                <= {"Crashed", "Cancelled"}
            )
        )
