"""What must not travel, what cannot, and what happens when something fails or dies."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster, Security
from prefect import flow, task
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker

from daskenv_lab.errors import ClusterGone, FlowError, NotPicklable
from daskenv_lab.flows import DaskExecutor
from daskenv_lab.flows.shipping import pack

Go = Callable[..., Any]


@task
def add(x: int, y: int = 1) -> int:
    """Add two numbers."""
    return x + y


@task
def long() -> None:
    """Run for half a minute."""
    for _ in range(600):
        time.sleep(0.05)


def test_notebook_flow_that_mentions_a_cluster(cluster: LocalCluster, api: str) -> None:
    """A flow whose function names a cluster, a client and a lock runs all the same."""
    lock = threading.Lock()
    with Client(cluster, set_as_default=False) as client:

        @flow(on_failure=[lambda *_: lock], task_runner=DaskExecutor(client.cluster))
        def f() -> int:
            with lock:
                assert client.status == "running"
                return add.submit(1).result()

        assert f() == 2


def test_no_credential_travels(cluster: LocalCluster, security: Security) -> None:
    """Neither the private key nor the certificate is in what is pickled of an executor."""
    executor = DaskExecutor(cluster.scheduler_address, security=security)
    packed, _ = pack(executor)
    assert security.tls_client_key.encode() not in packed
    assert b"PRIVATE KEY" not in packed


def test_unpicklable_argument_is_named(go: Go) -> None:
    """An argument that cannot travel is named, with its task."""

    @flow
    def f() -> None:
        add.submit(threading.Lock())

    report = go(f)
    assert isinstance(report.error, NotPicklable)
    assert "argument 'x'" in str(report.error)
    assert "'add'" in str(report.error)


def test_unpicklable_variable_is_named(go: Go) -> None:
    """A variable that a task uses and that cannot travel is named."""
    held = threading.Lock()

    @task
    def use() -> None:
        held.acquire()

    @flow
    def f() -> None:
        use.submit()

    report = go(f)
    assert isinstance(report.error, NotPicklable)
    assert "'held'" in str(report.error)


def test_unpicklable_result_crashes(go: Go, recorded: Go) -> None:
    """A result that cannot leave its worker ends the task run Crashed, in the API too."""

    @task
    def lock() -> Any:
        return threading.Lock()

    @flow
    def f() -> Any:
        return lock.submit()

    report = go(f)
    assert report.states == {"Crashed": 1}
    assert "cannot be pickled" in str(report.error)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        (found,) = recorded(report.flow_run_id, 1)
        if found.state_name == "Crashed":
            break
        time.sleep(0.2)
    assert found.state_name == "Crashed"


def test_exception_with_its_own_constructor_keeps_its_class(go: Go) -> None:
    """A flow can catch by class what pickle alone could not bring back, with its attributes."""

    class Odd(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")
            self.a = a

    @task
    def raise_it() -> None:
        raise Odd(1, 2)

    @flow
    def f() -> str:
        try:
            raise_it.submit().result()
        except Odd as error:
            return f"{error.a}: {error}"
        return "nothing was raised"

    assert go(f).result == "1: 1 and 2"


def test_the_variable_is_named_through_the_functions_that_use_it(go: Go) -> None:
    """Of a variable that a task's helper uses, both are named."""
    lock = threading.Lock()

    def helper() -> bool:
        return lock.locked()

    @task
    def uses_helper() -> bool:
        return helper()

    @flow
    def f() -> None:
        uses_helper.submit().result()

    error = str(go(f).error)
    assert "'lock'" in error
    assert "'helper'" in error


def test_exit_in_a_task(go: Go) -> None:
    """`sys.exit` in a task crashes the task run and leaves the worker alone."""

    @task
    def leave() -> None:
        sys.exit(3)

    @flow
    def f() -> Any:
        return leave.submit()

    assert go(f).states == {"Crashed": 1}


def test_failed_flow_cancels_its_tasks(go: Go, recorded: Go) -> None:
    """After a flow has failed its tasks end within seconds, and the API knows."""

    @flow
    def f() -> None:
        for _ in range(4):
            long.submit()
        time.sleep(1)
        raise ValueError("enough")

    report = go(f)
    assert isinstance(report.error, ValueError)
    states = [t.state_name for t in recorded(report.flow_run_id, 4)]
    assert sorted(states) == ["Cancelled", "Cancelled", "Crashed", "Crashed"]

    @flow
    def next_one() -> int:
        return add.submit(1).result(timeout=120)

    assert go(next_one).result == 2


@pytest.mark.slow
def test_dead_worker_crashes_the_task_run(api: str, recorded: Go, state_dir: Path) -> None:
    """A task that kills its worker ends Crashed, the next NotReady, and the API knows both."""
    import dask

    @task
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @flow
    def f() -> Any:
        dead = die.submit()
        return [dead, add.submit(dead)]

    from daskenv_lab.flows.flow_run import run_flow

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as own,
    ):
        report = run_flow(f, {}, on=own, progress=False)
    assert "worker died" in str(report.error)
    found = {t.name.rpartition("-")[0]: t.state_name for t in recorded(report.flow_run_id, 2)}
    assert found == {"die": "Crashed", "add": "NotReady"}


def test_results_that_die_with_their_worker_are_made_again(
    api: str, recorded: Go, state_dir: Path
) -> None:
    """Task runs of a killed worker run again, those too that had ended and were not fetched."""

    @task
    def slow(x: int) -> int:
        time.sleep(0.1)
        return x

    from daskenv_lab.flows.flow_run import run_flow

    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=2, **options) as own:

        @flow
        def f() -> list[int]:
            futures = slow.map(range(24))
            while sum(future.done for future in futures) < 8:
                time.sleep(0.05)
            os.kill(own.workers[0].pid, signal.SIGKILL)
            return futures.result()

        report = run_flow(f, {}, on=own, progress=False)
    assert report.result == list(range(24))
    assert {t.state_name for t in recorded(report.flow_run_id, 24)} == {"Completed"}


def test_closed_cluster_and_senseless_targets_are_one_sentence(state_dir: Path) -> None:
    """A target that is no cluster, or one that is gone, is said so."""
    with pytest.raises(FlowError, match="is no running cluster"):
        _ = DaskExecutor(3).client
    with pytest.raises(FlowError, match="address"):
        DaskExecutor("tcp://127.0.0.1:1", client_kwargs={"address": "tcp://127.0.0.1:2"})
    import dask

    with dask.config.set({"daskenv.timeouts.connect": "1s"}), pytest.raises(ClusterGone):
        _ = DaskExecutor("tcp://127.0.0.1:1").client


def test_the_cluster_given_wins_over_a_default_client(
    cluster: LocalCluster, security: Security, api: str
) -> None:
    """A default client of another cluster is not used."""
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as other,
        Client(other, set_as_default=True),
    ):

        @task
        def where() -> str:
            from distributed import get_worker

            return str(get_worker().scheduler.address)

        @flow(task_runner=DaskExecutor(cluster.scheduler_address, security=security))
        def f() -> str:
            return where.submit().result()

        assert f() == cluster.scheduler_address


def test_nothing_is_told_twice(cluster: LocalCluster, api: str) -> None:
    """What a flow leaves behind when it fails is told once, also if Dask's news of it are late."""

    @task
    def at_once() -> None:
        pass

    @task
    def lasts() -> None:
        for _ in range(600):
            time.sleep(0.05)

    @flow(task_runner=DaskExecutor(cluster))
    def f() -> None:
        first = at_once.submit()
        # What Dask tells of the others waits for it.
        first.add_done_callback(lambda _: time.sleep(5))
        for _ in range(6):
            lasts.submit()
        first.wait()
        raise ValueError("meant to fail")

    EventsWorker.set_client_override(AssertingEventsClient)
    AssertingEventsClient.reset()
    try:
        with pytest.raises(ValueError, match="meant"):
            f()
        EventsWorker.drain_all()
    finally:
        EventsWorker.set_client_override(None)
    told = Counter(e.id for client in AssertingEventsClient.all for e in client.events)
    # Of six, two run at most; of each of the others its first state and its last.
    assert len(told) >= 8
    assert set(told.values()) == {1}
