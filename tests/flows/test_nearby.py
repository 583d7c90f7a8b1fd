"""Results that come straight from workers on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster, Security
from prefect import flow, task

from daskenv_lab import DaskExecutor
from daskenv_lab.flows.nearby import fetch_from_nearby

LARGE = 3_000_000


@task
def large(x: int) -> bytes:
    """Give a few megabytes."""
    return bytes([x]) * LARGE


@pytest.fixture
def connect(cluster: LocalCluster, security: Security) -> Iterator[Callable[..., Client]]:
    """Give a function that opens a client of the cluster."""
    opened: list[Client] = []

    def connect(**options: Any) -> Client:
        opened.append(
            Client(cluster.scheduler_address, security=security, set_as_default=False, **options)
        )
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


def test_workers_here_are_asked_themselves(connect: Callable[..., Client]) -> None:
    """Under TLS as well; results are the same."""
    client = connect()
    fetch_from_nearby(client)
    assert client.direct_to_workers is True
    futures = client.map(lambda x: bytes([x]) * LARGE, range(4), pure=False)
    assert client.gather(futures) == [bytes([x]) * LARGE for x in range(4)]


@pytest.mark.parametrize("said", [True, False])
def test_what_was_said_before_stays(connect: Callable[..., Client], said: bool) -> None:
    """Whoever gives the client's arguments knows better."""
    client = connect(direct_to_workers=said)
    fetch_from_nearby(client)
    assert client.direct_to_workers is said


def test_a_flow_run_fetches_so(cluster: LocalCluster, api: str) -> None:
    """Once its first task has ended there is a worker to ask."""
    runner = DaskExecutor(cluster)
    seen: list[Any] = []

    @flow(task_runner=runner)
    def f() -> list[bytes]:
        results = large.map(range(4)).result()
        seen.append(flow_client().direct_to_workers)
        return results

    def flow_client() -> Client:
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        assert context is not None
        return context.task_runner.client  # type: ignore[attr-defined, no-any-return]

    assert f() == [bytes([x]) * LARGE for x in range(4)]
    assert seen == [True]


def test_without_workers_or_a_scheduler_nothing_changes() -> None:
    """It is told in a log at most, and Dask goes through the scheduler."""
    with (
        LocalCluster(
            n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
        ) as empty,
        Client(empty.scheduler_address, timeout=10) as client,
    ):
        fetch_from_nearby(client)
        assert client.direct_to_workers is None
        closed = Client(empty.scheduler_address, timeout=10, set_as_default=False)
    closed.close()
    fetch_from_nearby(closed)
    assert closed.direct_to_workers is None


def test_a_worker_that_is_gone_costs_nothing_but_time(security: Security) -> None:
    """The scheduler is asked where a worker does not answer, and has the task run again."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, security=security, dashboard_address=None
        ) as cluster,
        Client(cluster.scheduler_address, security=security, set_as_default=False) as client,
    ):
        fetch_from_nearby(client)
        assert client.direct_to_workers is True
        futures = client.map(lambda x: bytes([x]) * LARGE, range(8), pure=False)
        client.gather(futures[:1])
        pids = client.run(os.getpid)
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        assert client.gather(futures) == [bytes([x]) * LARGE for x in range(8)]
