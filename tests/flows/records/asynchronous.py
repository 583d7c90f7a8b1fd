"""A flow of asynchronous tasks, and others, that does what `everything` leaves out."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import cloudpickle
from prefect import flow, get_run_logger, task
from prefect.concurrency.asyncio import concurrency
from prefect.futures import wait

import daskenv_lab

from .everything import SLOTS, double, tried


@task
async def later(x: Any) -> Any:
    """Add one, in a while."""
    await asyncio.sleep(0.01)
    get_run_logger().info("later %s", x)
    return x + 1


@task(retries=1, retry_delay_seconds=0.1)
async def flaky_later() -> int:
    """Complete at the second try, asynchronously."""
    if tried() < 2:
        raise OSError("not yet")
    return tried()


@task(timeout_seconds=0.2)
async def slow_later() -> None:
    """Take longer than it may, asynchronously."""
    await asyncio.sleep(20)


@task
async def parent_later(x: int) -> int:
    """Call asynchronous tasks in an asynchronous task."""
    async with concurrency(SLOTS, occupy=1):
        called = await later(x)
    return called + later.submit(x + 10).result()


@flow(flow_run_name="asynchronous")
async def asynchronous(salt: str) -> list[str]:
    """Run asynchronous tasks, and others from an asynchronous flow."""
    called = await later(1)
    futures: list[Any] = [
        *daskenv_lab.map(later, [2, 3], batch=2),
        double.submit(later.submit(1500)),
        flaky_later.submit(),
        slow_later.submit(),
        parent_later.submit(called),
    ]
    wait(futures)
    return [f"{future.state.name} {future.state.message}" for future in futures]


cloudpickle.register_pickle_by_value(sys.modules[__name__])
