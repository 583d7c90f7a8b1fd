"""What flows may do on a cluster."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
import weakref
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from prefect import allow_failure, flow, get_run_logger, tags, task, unmapped
from prefect.cache_policies import INPUTS
from prefect.settings import (
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)
from prefect.states import State

from daskenv_lab.flows import DaskExecutor

Go = Callable[..., Any]


@task
def add(x: int, y: int = 1) -> int:
    """Add two numbers."""
    return x + y


@task
def total(xs: Any) -> int:
    """Add up."""
    return sum(xs)


@task
def fail() -> None:
    """Fail."""
    raise ValueError("as asked")


@task
def long() -> None:
    """Run for half a minute."""
    for _ in range(600):
        time.sleep(0.05)


def test_map_submit_and_nested_futures(go: Go) -> None:
    """Futures reach tasks directly, in lists and in dicts, and unmapped values are kept."""

    @task
    def both(a: dict[str, Any], b: list[Any]) -> int:
        return int(a["deep"][0] + b[0])

    @flow
    def f() -> int:
        mapped = add.map([1, 2, 3], y=unmapped(10))
        first = add.submit(1)
        return total.submit(mapped).result() + both.submit({"deep": [first]}, [first]).result()

    assert go(f).result == 36 + 4


def test_async_flow_and_task(go: Go) -> None:
    """Asynchronous flows and tasks run, inside a running event loop too."""

    @task
    async def later(x: int) -> int:
        await asyncio.sleep(0.01)
        return x + 1

    @flow
    async def f() -> int:
        return later.submit(add.submit(1)).result()

    assert go(f).result == 3

    async def inside() -> Any:
        return go(f).result

    assert asyncio.run(inside()) == 3


def test_upstream_failure_is_not_ready_unless_allowed(go: Go) -> None:
    """A failed upstream leaves a task NotReady, and `allow_failure` hands the exception on."""

    @task
    def take(x: Any) -> str:
        return repr(x)

    @flow
    def f() -> tuple[str | None, str]:
        failed = fail.submit()
        unready = take.submit(failed, wait_for=[failed])
        unready.wait()
        return unready.state.name, take.submit(allow_failure(failed)).result()

    assert go(f).result == ("NotReady", "ValueError('as asked')")


def test_return_state_and_returned_futures(go: Go) -> None:
    """`return_state` gives states, and a flow may return futures that nobody awaited."""

    @flow
    def f() -> list[Any]:
        state = add.submit(1, return_state=True)
        assert isinstance(state, State)
        assert state.is_completed()
        return [add.submit(1), add.submit(2)]

    report = go(f)
    assert report.ok
    assert len(report.task_runs) == 3
    assert report.states == {"Completed": 3}


def test_unawaited_futures_are_awaited(go: Go, tmp_path: Path) -> None:
    """A flow ends only when the tasks that it did not await have run."""

    @task
    def touch(n: int) -> None:
        time.sleep(0.3)
        (tmp_path / str(n)).touch()

    @flow
    def f() -> None:
        touch.map([1, 2, 3])

    report = go(f)
    assert report.states == {"Completed": 3}
    assert len(list(tmp_path.iterdir())) == 3


def test_retries_of_task_and_flow(go: Go, tmp_path: Path) -> None:
    """Tasks and flows are tried again as often as they say."""

    @task(retries=2, retry_delay_seconds=0)
    def flaky() -> int:
        with (tmp_path / "task").open("a") as tried:
            tried.write("x")
        if len((tmp_path / "task").read_text()) < 3:
            raise OSError("not yet")
        return 7

    @flow(retries=1)
    def f() -> int:
        result = flaky.submit().result()
        if not (tmp_path / "flow").exists():
            (tmp_path / "flow").touch()
            raise OSError("once more")
        return result

    assert go(f).result == 7


def test_caching(go: Go, tmp_path: Path) -> None:
    """A cached task does not run twice."""

    @task(cache_policy=INPUTS, persist_result=True, cache_expiration=timedelta(minutes=5))
    def counted(where: str) -> int:
        with Path(where).open("a") as file:
            file.write("x")
        return 1

    @flow
    def f() -> str | None:
        counted.submit(str(tmp_path / "n")).wait()
        again = counted.submit(str(tmp_path / "n"))
        again.wait()
        return again.state.name

    assert go(f).result == "Cached"
    assert (tmp_path / "n").read_text() == "x"


def test_result_time_limit(go: Go) -> None:
    """`result(timeout=...)` raises when the time is over, and `wait` returns."""

    @flow
    def f() -> None:
        future = long.submit()
        future.wait(timeout=0.2)
        future.result(timeout=0.2)

    report = go(f)
    assert isinstance(report.error, TimeoutError)


def test_nested_parents_do_not_deadlock(go: Go) -> None:
    """Four parents that wait for their children run on two slots."""

    @task
    def parent(n: int) -> int:
        return sum(add.submit(n + i).result() for i in range(3))

    @flow
    def f() -> list[int]:
        return [future.result() for future in parent.map([0, 10, 20, 30])]

    report = go(f)
    assert report.result == [6, 36, 66, 96]
    assert report.states == {"Completed": 16}


def test_children_that_a_task_does_not_await(go: Go, tmp_path: Path) -> None:
    """A task ends only when the children that it did not await have run."""

    @task
    def child() -> None:
        time.sleep(0.2)
        (tmp_path / "ran").touch()

    @task
    def parent() -> None:
        child.submit()

    @flow
    def f() -> bool:
        parent.submit().wait()
        return (tmp_path / "ran").exists()

    assert go(f).result


def test_nested_flow(go: Go, cluster: LocalCluster) -> None:
    """A flow in a flow runs on the cluster when it has the executor as well."""

    @task
    def pid() -> int:
        return os.getpid()

    @flow
    def inner() -> int:
        return pid.submit().result()

    @flow
    def f() -> int:
        return inner.with_options(task_runner=DaskExecutor(cluster))()

    assert go(f).result != os.getpid()


def test_tags_logs_and_inputs_are_recorded(go: Go, recorded: Go) -> None:
    """The API knows a task run's tags and upstream task runs."""

    @task(tags=["mine"], log_prints=True)
    def tagged(x: int) -> int:
        print("printed")
        get_run_logger().info("logged")
        return x

    @flow
    def f() -> int:
        with tags("around"):
            first = add.submit(1)
            return tagged.submit(first).result()

    report = go(f)
    found = {t.name.rpartition("-")[0]: t for t in recorded(report.flow_run_id, 2)}
    assert set(found["tagged"].tags) == {"mine", "around"}
    assert [i.id for i in found["tagged"].task_inputs["x"]] == [found["add"].id]
    assert {t.state for t in report.task_runs} == {"Completed"}
    assert {t.name for t in report.task_runs} == {t.name for t in found.values()}


@pytest.mark.parametrize(("told", "beats"), [(None, False), (60, True)])
def test_a_flow_run_sends_heartbeats_only_if_told(
    cluster: LocalCluster, api: str, told: int | None, beats: bool
) -> None:
    """They would hold its end up; Prefect's engine looks at the setting that the runner leaves."""
    said: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    @flow(task_runner=DaskExecutor(cluster))
    def f() -> tuple[int, int | None]:
        return add.submit(1).result(), get_current_settings().flows.heartbeat_frequency

    logger, listening = logging.getLogger("prefect.flow_runs"), Listening()
    level = logger.level
    logger.addHandler(listening)
    logger.setLevel(logging.DEBUG)
    settings = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: told} if told else {}
    try:
        with temporary_settings(settings):
            before = get_current_settings().flows.heartbeat_frequency
            assert f() == (2, told)
            assert get_current_settings().flows.heartbeat_frequency == before
    finally:
        logger.removeHandler(listening)
        logger.setLevel(level)
    assert any("Executing flow" in line for line in said)
    assert any("Started flow run heartbeat" in line for line in said) is beats


def test_a_flow_run_that_is_over_keeps_no_results(cluster: LocalCluster, api: str) -> None:
    """Though Dask's connections, opened in its context, live on; what the caller keeps stays."""
    kept: list[weakref.ref[Any]] = []
    returned: list[Any] = []

    @flow(task_runner=DaskExecutor(cluster))
    def f() -> None:
        futures = add.map(range(4))
        assert futures.result() == [1, 2, 3, 4]
        kept.extend(weakref.ref(future) for future in futures)
        returned.append(futures[3])

    f()
    f()
    gc.collect()
    assert [ref() is None for ref in kept] == [True, True, True, False] * 2
    assert [future.result() for future in returned] == [4, 4]
