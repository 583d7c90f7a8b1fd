"""Milliseconds for each of many trivial mapped tasks, by task runner, side by side in one run.

Prefect's own thread runner, prefect-dask and `DaskExecutor` take turns on one local cluster of two
workers, with a real Prefect API on the same machine.

Run it with ``python tests/benchmarks/bench_tasks.py``.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from typing import Any

TASKS = 200
ROUNDS = 3


def main() -> None:
    """Measure in folders of its own, and print a table."""
    import distributed
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner
    from prefect_dask import DaskTaskRunner

    from daskenv_lab import DaskExecutor
    from daskenv_lab.flows.api import prefect_api, stop_local_api

    logging.getLogger("prefect").setLevel(logging.ERROR)

    @task
    def double(x: int) -> int:
        return 2 * x

    @flow
    def many(n: int) -> int:
        return sum(double.map(range(n)).result())

    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    seconds: dict[str, list[float]] = {}
    with prefect_api(), distributed.LocalCluster(n_workers=2, **options) as cluster:
        runners = {
            "Prefect's thread runner": ThreadPoolTaskRunner(),
            "prefect-dask": DaskTaskRunner(address=cluster.scheduler_address),
            "`DaskExecutor`": DaskExecutor(cluster),
        }
        flows = {name: many.with_options(task_runner=runner) for name, runner in runners.items()}
        for warm in flows.values():
            warm(4)
        for _ in range(ROUNDS):
            for name, timed in flows.items():
                began = time.perf_counter()
                assert timed(TASKS) == TASKS * (TASKS - 1)
                seconds.setdefault(name, []).append(time.perf_counter() - began)
    stop_local_api(30)
    least = statistics.median(seconds["prefect-dask"])
    print(f"| {TASKS} trivial mapped tasks | ms for each | of prefect-dask |")
    print("|---|---|---|")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"| {name} | {median / TASKS * 1000:.1f} | {median / least:.2f} |")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="daskenv-bench-") as folder:
        os.environ["DASK_DASKENV__STATE_DIR"] = folder
        os.environ["PREFECT_HOME"] = f"{folder}/prefect"
        main()
