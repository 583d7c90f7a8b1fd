"""The cluster of `bench_panel.py`: a scheduler in one process, and all its workers in another.

Workers in the scheduler's own process would make it answer late, and a panel look less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator

import dask
import distributed

NAPS = (5.0, 15.0)
"""Seconds that a task sleeps, between these."""

AHEAD = 10
"""Tasks for each worker that are known, at least half of them."""


def scheduler(workers: int, busy: bool) -> None:
    """Run a scheduler, tell its address, and give it tasks until the process is ended."""
    with (
        distributed.LocalCluster(
            n_workers=0,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address=None,
        ) as made,
        distributed.Client(made, set_as_default=False) as client,
    ):
        print(made.scheduler_address, flush=True)
        client.wait_for_workers(workers, timeout=300)
        print("all workers are there", flush=True)
        waiting: list[distributed.Future] = []
        while busy:
            waiting = [future for future in waiting if not future.done()]
            if len(waiting) < AHEAD * workers // 2:
                naps = [random.uniform(*NAPS) for _ in range(AHEAD * workers)]
                waiting += client.map(time.sleep, naps, pure=False)
            time.sleep(2)
        sys.stdin.read()


async def run_workers(address: str, workers: int) -> None:
    """Run workers of one thread each until the process is ended."""
    # What each watches of its process would be done as often as there are workers in this one.
    quiet = {
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.interval": "10 s",
    }
    with dask.config.set(quiet):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(workers):
                worker = distributed.Worker(address, nthreads=1, memory_limit=0, dashboard=False)
                await stack.enter_async_context(worker)
            await asyncio.Event().wait()


@contextlib.contextmanager
def cluster(workers: int, *, busy: bool) -> Iterator[str]:
    """Run a scheduler and its workers; gives the scheduler's address once all are there."""
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(_process("scheduler", str(workers), "busy" if busy else "idle"))
        address = _line(made)
        stack.enter_context(_process("workers", address, str(workers)))
        _line(made)
        yield address


@contextlib.contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    if not (line := process.stdout.readline().strip()):
        raise SystemExit("the cluster did not start")
    return line


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["scheduler", number, load]:
            scheduler(int(number), load == "busy")
        case ["workers", address, number]:
            asyncio.run(run_workers(address, int(number)))
