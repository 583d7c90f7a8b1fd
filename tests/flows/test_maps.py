"""Maps: one message, one context, several calls in one Dask task."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from distributed import LocalCluster
from prefect import flow, task

import daskenv_lab
from daskenv_lab.errors import FlowError

Go = Callable[..., Any]


@task
def double(x: int) -> int:
    """Double a number, but for 13."""
    if x == 13:
        raise ValueError("unlucky")
    return 2 * x


def keys_of(cluster: LocalCluster, prefix: str) -> set[str]:
    """List the keys that the scheduler holds."""
    tasks = cluster.scheduler.tasks  # type: ignore[attr-defined]
    return {str(key) for key in tasks if str(key).startswith(prefix)}


def test_a_batch_is_one_dask_task_of_many_task_runs(
    go: Go, recorded: Go, cluster: LocalCluster
) -> None:
    """Each call of a batch has its own task run, state and result; Dask sees one key for each."""
    seen: list[set[str]] = []

    @flow
    def f() -> list[int]:
        before = keys_of(cluster, "double")
        futures = daskenv_lab.map(double, range(10), batch=4)
        futures.wait()
        seen.append(keys_of(cluster, "double") - before)
        return futures.result()

    report = go(f)
    assert report.result == [2 * x for x in range(10)]
    assert len(seen[0]) == 3
    assert report.states == {"Completed": 10}
    assert {t.state_name for t in recorded(report.flow_run_id, 10)} == {"Completed"}


def test_what_a_map_iterates_over_may_submit_tasks(go: Go) -> None:
    """They are task runs of their own, whose futures are the inputs of the map's."""

    @task
    def negate(x: int) -> int:
        return -x

    @flow
    def f() -> list[int]:
        lazily = daskenv_lab.map(double, (negate.submit(x) for x in range(4)), batch=2)
        mapped = double.map(future for future in negate.map(x for x in range(4)))
        return [*lazily.result(), *mapped.result()]

    report = go(f)
    assert report.result == [0, -2, -4, -6] * 2
    assert len(report.task_runs) == 16


def test_a_callback_that_fails_holds_nobody_up(go: Go) -> None:
    """The others of its batch end, and so does the flow."""

    def fails(future: Any) -> None:
        raise RuntimeError(f"of {future.name}")

    @flow
    def f() -> list[int]:
        futures = daskenv_lab.map(double, [1, 2, 3], batch=3)
        for future in futures:
            future.add_done_callback(fails)
        return futures.result(timeout=60)

    assert go(f).result == [2, 4, 6]


def test_a_failure_in_a_batch_is_its_own(go: Go) -> None:
    """A call that fails leaves the others of its batch alone, and those that build on them run."""

    @flow
    def f() -> list[Any]:
        first = daskenv_lab.map(double, [12, 13, 14], batch=3)
        first.wait()
        second = double.map(first[::2])
        return [first[1].state.name, *second.result()]

    assert go(f).result == ["Failed", 48, 56]


def test_a_batch_size_that_is_none_is_refused() -> None:
    """A batch has at least one call."""
    with pytest.raises(FlowError, match="batch is 0"):
        daskenv_lab.map(double, [1], batch=0)


def test_results_stay_on_the_cluster_until_asked_for(go: Go) -> None:
    """Waiting for tasks moves no results; asking for them all takes one go for those that ended."""

    @task
    def large(_: int) -> bytes:
        return bytes(1_000_000)

    @flow
    def f() -> int:
        futures = large.map(range(8))
        futures.wait()
        return len(futures)

    report = go(f)
    assert report.result == 8
    assert report.bytes_moved < 4_000_000


def test_a_failure_is_raised_while_others_go_on(go: Go) -> None:
    """The results of a map are waited for no longer than until one of them is an exception."""

    @task
    def wait_or_fail(seconds: float) -> None:
        if not seconds:
            raise ValueError("at once")
        time.sleep(seconds)

    @flow
    def f() -> float:
        futures = wait_or_fail.map([0, 6])
        began = time.monotonic()
        with pytest.raises(ValueError, match="at once"):
            futures.result()
        return time.monotonic() - began

    assert go(f).result < 5


def test_large_maps_build_on_each_other(go: Go) -> None:
    """Results keep their places."""

    @flow
    def f() -> list[int]:
        first = double.map(range(100, 500))
        return double.map(first[::-1]).result()

    assert go(f).result == [4 * x for x in reversed(range(100, 500))]


@pytest.mark.parametrize("before", [2, 300])
def test_a_map_that_cannot_travel_sends_nothing(go: Go, before: int) -> None:
    """One argument that cannot be pickled is named, and no call of the map has run."""
    import threading

    @flow
    def f() -> str:
        try:
            double.map([*range(20, 20 + before), threading.Lock()])
        except daskenv_lab.DaskEnvLabError as error:
            return str(error)
        return ""

    report = go(f)
    assert "the argument 'x' of the task 'double' is a lock" in report.result
    assert report.task_runs == ()
