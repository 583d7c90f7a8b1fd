"""Flows of eight shapes, whose tasks take times drawn with a seed."""

from __future__ import annotations

import random
import time
from typing import Any

from prefect import Flow, flow, task
from prefect.cache_policies import NO_CACHE

MB = 1_000_000


@task
def wait(seconds: float, *inputs: Any, size: int = 0) -> bytes:
    """Take a time without computing, and give back so many bytes."""
    del inputs
    time.sleep(seconds)
    return bytes(size)


# Prefect hashes the inputs of other tasks, which takes more here than to send them.
carry = wait.with_options(name="carry", cache_policy=NO_CACHE)


@task
def hold(seconds: float, size: int) -> bytes:
    """Take a time with so many bytes in memory, and give back a tenth of them."""
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(seconds)
    return bytes(size // 10)


@task
def compute(asleep: float, computing: float) -> None:
    """Wait, and then compute for so many seconds of processor time."""
    time.sleep(asleep)
    until = time.thread_time() + computing
    while time.thread_time() < until:
        pass


def times(seed: int, n: int, mean: float, spread: float = 0.3) -> list[float]:
    """Draw times with a lognormal spread around a mean, at most eight times as long."""
    dice = random.Random(seed)
    shift = spread**2 / 2
    return [mean * min(dice.lognormvariate(-shift, spread), 8.0) for _ in range(n)]


@flow
def wide_map(seed: int) -> None:
    """Run 100 tasks that do not need each other."""
    wait.map(times(seed, 100, 0.6)).wait()


@flow
def deep_chain(seed: int) -> None:
    """Run five chains of twelve tasks, one after another."""
    draws = iter(times(seed, 60, 0.8))
    ends: list[Any] = [wait.submit(next(draws)) for _ in range(5)]
    for _ in range(11):
        ends = [wait.submit(next(draws), end) for end in ends]
    for end in ends:
        end.wait()


@flow
def diamond(seed: int) -> None:
    """Fan out to 40 tasks, come together, and do it again."""
    draws = iter(times(seed, 82, 0.6))
    joined: Any = None
    for _ in range(2):
        parts = [wait.submit(next(draws), joined) for _ in range(40)]
        joined = wait.submit(next(draws), *parts)
    joined.wait()


@flow
def tree_reduction(seed: int) -> None:
    """Reduce 64 results by pairs."""
    draws = iter(times(seed, 127, 0.45))
    level: list[Any] = [wait.submit(next(draws), size=MB) for _ in range(64)]
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [wait.submit(next(draws), *pair, size=MB) for pair in pairs]
    level[0].wait()


@flow
def skewed_map(seed: int) -> None:
    """Run 80 tasks, some of which take many times as long as most."""
    wait.map(times(seed, 80, 0.7, spread=1.0)).wait()


@flow
def memory_heavy(seed: int) -> None:
    """Run 64 tasks with 40 MB of memory each."""
    hold.map(times(seed, 64, 0.8), 40 * MB).wait()


@flow
def transfer_heavy(seed: int) -> None:
    """Make 24 results of 10 MB, and take four of them with each of 24 further tasks."""
    draws = iter(times(seed, 48, 1.0))
    parts = [carry.submit(next(draws), size=10 * MB) for _ in range(24)]
    taken = [
        carry.submit(next(draws), *(parts[(i * 5 + j * 7) % 24] for j in range(4)))
        for i in range(24)
    ]
    for one in taken:
        one.wait()


@flow
def mixed(seed: int) -> None:
    """Run 80 tasks that wait, and compute a little."""
    compute.map(times(seed, 80, 0.6), times(seed + 1, 80, 0.03)).wait()


@flow
def warm_up(n: int) -> None:
    """Let each worker import what a task run needs."""
    wait.map([0.3] * n).wait()


SHAPES: dict[str, Flow[..., Any]] = {
    "wide map": wide_map,
    "deep chain": deep_chain,
    "diamond": diamond,
    "tree reduction": tree_reduction,
    "skewed map": skewed_map,
    "memory-heavy": memory_heavy,
    "transfer-heavy": transfer_heavy,
    "mixed": mixed,
}
