"""One measurement of `bench_tasks.py`, in a process of its own that plays a fresh kernel.

It is given an order as JSON on its command line, and prints one line of JSON.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import dask.config
import psutil
from prefect import Task, flow, task
from prefect.client.orchestration import get_client
from prefect.task_runners import ThreadPoolTaskRunner
from prefect_dask import DaskTaskRunner

import daskenv_lab
from daskenv_lab import DaskExecutor
from daskenv_lab.flows.api import prefect_api
from daskenv_lab.flows.target import reach

WARM = 20
"""Tasks of the run before, which opens and imports what later runs find open."""

MEGABYTE = 1_000_000

Told = dict[str, float | None]


def double(x: int) -> int:
    """Double a number: a trivial task."""
    return 2 * x


def large(x: int) -> bytes:
    """Give a megabyte that no compression makes smaller."""
    return random.randbytes(MEGABYTE)


def sizes(parts: list[bytes]) -> int:
    """Take many results, as a step after them does."""
    return sum(map(len, parts))


WORK: dict[str, Callable[[int], Any]] = {"trivial": double, "large": large, "taken": large}


class Meter:
    """Looks at this process's memory, and tells by how much it grew.

    It looks only if it is told what to `weigh`, since that takes time of the runs: the `process`,
    or Python's own `objects`.
    """

    def __init__(self, weigh: str | None) -> None:
        self._weigh = weigh
        if weigh == "objects":
            tracemalloc.start()
        self._before = self._now()

    def grown(self) -> int | None:
        """Count the bytes that came since; None if nothing is weighed."""
        return None if self._weigh is None else self._now() - self._before

    def _now(self) -> int:
        if self._weigh is None:
            return 0
        gc.collect()
        if self._weigh == "objects":
            return tracemalloc.get_traced_memory()[0]
        return int(psutil.Process().memory_info().rss)


def main(order: dict[str, Any]) -> Told:
    """Run what the order asks for: a `runner`, a `case`, `n` tasks, and a `target`."""
    dask.config.set({"daskenv.prefect.route": order["route"]})
    reached = reach(order["target"])
    try:
        if order["runner"] == "client.map":
            return on_the_client(reached.connection.client, order)
        with prefect_api():
            return in_a_flow(reached.connection, order)
    finally:
        reached.connection.close()


def on_the_client(client: Any, order: dict[str, Any]) -> Told:
    """Time plain tasks of Dask's, without Prefect."""
    work, n = WORK[order["case"]], order["n"]
    taken = order["case"] == "taken"
    client.gather(client.map(work, range(WARM), pure=False))
    meter = Meter(order["weigh"])
    began = time.perf_counter()
    futures = client.map(work, range(n), pure=False)
    submitted = time.perf_counter() - began
    last = client.submit(sizes, futures, pure=False) if taken else futures
    results = client.gather(last)
    wall = time.perf_counter() - began
    told: Told = {"wall": wall, "results": wall, "submit": submitted, "held": meter.grown()}
    assert results == n * MEGABYTE if taken else len(results) == n
    del futures, last, results
    return {**told, "left": meter.grown()}


def in_a_flow(connection: Any, order: dict[str, Any]) -> Told:
    """Time a flow run from its call to its return, and then wait until the API knows of all."""
    work, last = task(WORK[order["case"]]), task(sizes)
    taken = order["case"] == "taken"
    mapped = in_batches if order["runner"] == "batch" else one_by_one
    meter: Meter | None = None
    told: Told = {}

    @flow
    def many(n: int) -> None:
        began = time.perf_counter()
        futures = mapped(work, range(n), order["batch"])
        told["submit"] = time.perf_counter() - began
        results = last.submit(futures).result() if taken else futures.result()
        told["results"] = time.perf_counter() - began
        assert results == n * MEGABYTE if taken else len(results) == n
        told["held"] = meter.grown() if meter else None

    timed = many.with_options(task_runner=runner(order["runner"], connection))
    warmed = timed(WARM, return_state=True)
    seconds_until_recorded(str(warmed.state_details.flow_run_id), WARM + taken, order["patience"])
    meter = Meter(order["weigh"])
    began = time.perf_counter()
    state = timed(order["n"], return_state=True)
    wall = time.perf_counter() - began
    assert state.is_completed(), state
    flow_run_id = str(state.state_details.flow_run_id)
    recorded = seconds_until_recorded(flow_run_id, order["n"] + taken, order["patience"])
    return {**told, "wall": wall, "recorded": recorded, "left": meter.grown()}


def runner(name: str, connection: Any) -> Any:
    """Make the task runner of that name."""
    if name == "thread runner":
        return ThreadPoolTaskRunner()
    if name == "prefect-dask":
        security = {"security": connection.security}
        return DaskTaskRunner(address=connection.address, client_kwargs=security)
    return DaskExecutor(connection)


def one_by_one(work: Task[Any, Any], xs: Iterable[int], batch: int) -> Any:
    """Map as one does."""
    return work.map(xs)


def in_batches(work: Task[Any, Any], xs: Iterable[int], batch: int) -> Any:
    """Map with several task runs in each Dask task."""
    return daskenv_lab.map(work, xs, batch=batch)


def seconds_until_recorded(flow_run_id: str, n: int, patience: float) -> float | None:
    """Wait until the API has as many task runs that completed; None if it has not in time."""
    chosen = {
        "flow_run_id": {"any_": [flow_run_id]},
        "state": {"type": {"any_": ["COMPLETED"]}},
    }
    began = time.perf_counter()
    with get_client(sync_client=True) as client:
        while (waited := time.perf_counter() - began) < patience:
            counted = client._client.post("/task_runs/count", json={"task_runs": chosen})
            if counted.raise_for_status().json() >= n:
                return waited
            time.sleep(0.5)
    return None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
