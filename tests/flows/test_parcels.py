"""The flow run's context and a task's code: kept once by the scheduler, fetched by workers."""

from __future__ import annotations

import asyncio
import random
import string
import threading
import time
from collections.abc import Callable
from typing import Any

import cloudpickle
from distributed import Client, LocalCluster, get_worker
from prefect import flow, task

from daskenv_lab.flows import parcels
from daskenv_lab.flows.parcels import FETCH, KEEP, Parcels

Go = Callable[..., Any]

LATE = 15.0
"""Seconds after which a scheduler answers that is far behind."""

LARGE = 200_000
"""Characters of a flow's parameter; Prefect's API takes half a MiB."""


def noise() -> str:
    """Give a text that no compression makes small."""
    return "".join(random.choices(string.ascii_letters + string.digits, k=LARGE))


def kept_by(cluster: LocalCluster) -> Any:
    """Give what the scheduler keeps."""
    return cluster.scheduler.plugins[Parcels.name]  # type: ignore[attr-defined]


@task
def length(text: str) -> int:
    """Measure a text."""
    return len(text)


def test_neither_context_nor_code_travels_with_a_call(go: Go, cluster: LocalCluster) -> None:
    """Calls that are submitted one by one are small, though what they share is not."""
    more = noise()
    sizes: list[int] = []
    kept: list[int] = []

    @task
    def both(x: int) -> int:
        return x + len(more)

    @flow
    def f(text: str) -> int:
        futures = [both.submit(x) for x in range(10)]
        total = sum(future.result() for future in futures)
        tasks = [cluster.scheduler.tasks[f.wrapped_future.key] for f in futures]  # type: ignore[attr-defined]
        sizes.extend(len(cloudpickle.dumps(one.run_spec)) for one in tasks)
        kept.extend(len(parcel) for parcel in kept_by(cluster)._parcels.values())
        return total + len(text)

    assert go(f, text=noise()).result == 45 + 11 * LARGE
    assert max(sizes) < 5_000
    # The context with the parameter, and the task with what it uses.
    assert len(kept) == 2
    assert LARGE < sum(kept) < 3 * LARGE


def test_a_flow_run_that_is_over_leaves_nothing(go: Go, cluster: LocalCluster) -> None:
    """Neither those of its tasks' tasks."""

    @task
    def parent(x: int) -> int:
        return length.submit("a" * x).result()

    @flow
    def f() -> list[int]:
        return parent.map([1, 2]).result()

    assert go(f).result == [1, 2]
    deadline = time.monotonic() + 60
    while kept_by(cluster)._parcels and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (kept_by(cluster)._parcels, kept_by(cluster)._runs) == ({}, {})


def test_tasks_that_submit_the_same_send_its_code_once(go: Go, cluster: LocalCluster) -> None:
    """Once from each worker, however many of them run there."""

    @task
    def parent(x: int) -> int:
        return length.submit("a" * x).result()

    @flow
    def f() -> int:
        return sum(parent.map(range(10)).result())

    assert go(f).result == 45
    handlers = cluster.scheduler.stream_handlers  # type: ignore[attr-defined]
    keep, keys = handlers[KEEP], []

    def counted(key: str, **told: Any) -> None:
        keys.append(key)
        keep(key=key, **told)

    handlers[KEEP] = counted
    try:
        assert go(f).result == 45
    finally:
        handlers[KEEP] = keep
    # The context, the parent, and on each of two workers the child.
    assert len(keys) <= 4
    assert len(set(keys)) == 3


def test_a_task_that_cannot_travel_leaves_nothing(go: Go, cluster: LocalCluster) -> None:
    """The context that was kept for it goes."""
    lock = threading.Lock()

    @task
    def use() -> None:
        lock.acquire()

    @flow
    def f() -> None:
        use.submit()

    assert "'lock'" in str(go(f).error)
    deadline = time.monotonic() + 60
    while kept_by(cluster)._parcels and time.monotonic() < deadline:
        time.sleep(0.05)
    assert kept_by(cluster)._parcels == {}


def test_a_flow_run_ends_while_workers_wait_for_its_code(go: Go, cluster: LocalCluster) -> None:
    """Its end does not wait for the scheduler's answer."""
    asked = threading.Event()

    async def late(key: str) -> Any:
        if "-" in key:  # a task's code
            asked.set()
            await asyncio.sleep(LATE)
        return fetch(key)

    @flow
    def fails() -> None:
        length.map(["a", "b"])
        assert asked.wait(60)
        raise ValueError("at once")

    @flow
    def works() -> int:
        return length.submit("abc").result()

    assert go(works).result == 3
    handlers = cluster.scheduler.handlers  # type: ignore[attr-defined]
    fetch, handlers[FETCH] = handlers[FETCH], late
    began = time.monotonic()
    try:
        assert "at once" in str(go(fails).error)
        assert time.monotonic() - began < LATE
    finally:
        handlers[FETCH] = fetch
    assert go(works).result == 3


def test_a_client_that_leaves_leaves_nothing(cluster: LocalCluster) -> None:
    """Whether it said so or was killed, its parcels go; a late one is not kept."""
    with Client(cluster, set_as_default=False) as client:
        client.register_plugin(Parcels())
        parcels.begin(client, "run")
        parcels.keep(client, "run", "key", b"parcel")
        assert client.submit(lambda: parcels.fetch(get_worker(), "key")).result(60) == b"parcel"
    deadline = time.monotonic() + 60
    while kept_by(cluster)._parcels and time.monotonic() < deadline:
        time.sleep(0.05)
    with Client(cluster, set_as_default=False) as client:
        parcels.keep(client, "run", "key", b"late")
        lost = client.submit(lambda: parcels.fetch(get_worker(), "key"), pure=False)
        assert "does not keep" in str(lost.exception(60))


def test_two_calls_go_to_two_workers(go: Go) -> None:
    """What they share ties them to no worker."""

    @task
    def where(x: int) -> str:
        time.sleep(0.5)
        return str(get_worker().address)

    @flow
    def f() -> int:
        where.map([0]).wait()
        return len(set(where.map([1, 2]).result()))

    assert go(f).result == 2
