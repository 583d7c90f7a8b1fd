"""The clusters that an environment could make, and what each has and costs."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskenv_lab import sizes
from daskenv_lab.environments import DaskCloudProviderEnvironment
from daskenv_lab.prices import Rate, Task, fargate_rate, worker_hour_rate
from daskenv_lab.tuning.size import Size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daskenv_lab.environments import Environment
    from daskenv_lab.report import WorkerReport

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 500)
"""Numbers of workers that are looked at; each is at most half as much again as the one before."""

CPUS = (256, 512, 1024, 2048, 4096)
"""CPU units of Fargate workers that are looked at; 1024 are one virtual CPU."""

FARGATE = {
    "worker_cpu": 4096,
    "worker_mem": 16384,
    "scheduler_cpu": 1024,
    "scheduler_mem": 4096,
}
"""What holds where nothing is said, as dask-cloudprovider's ``cloudprovider.yaml`` has it."""

HEADROOM = 1.25
"""A suggested memory size is at least so many times the most that a worker is predicted to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One cluster that an environment could make."""

    environment: Environment
    size: Size
    rate: Rate | None
    """What it costs; None where nobody knows."""

    @property
    def on_fargate(self) -> bool:
        """Whether its workers are Fargate tasks, so that their CPU and memory can be chosen."""
        return is_fargate(self.environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What holds for all clusters that are looked at."""

    recorded: WorkerReport
    """A worker of the recorded run; others than Fargate's are taken to be like it."""

    cores: float = 1.0
    """The cores that each of its threads had."""

    machine: int = 0
    """Cores of the machine that all workers are on, where that is one; else 0."""

    startup: float = 0.0
    """Seconds that a worker takes to start."""

    interval: float = 1.0
    """Seconds between two looks at the load, where the number of workers follows it."""

    fresh: bool = True
    """Whether the cluster is made for each flow run."""

    region: str = "us-east-1"
    """Of AWS, for the prices."""


def is_fargate(environment: Environment) -> bool:
    """Tell whether an environment's workers are Fargate tasks of a size that it names."""
    return (
        isinstance(environment, DaskCloudProviderEnvironment)
        and environment.short_name == "fargate"
    )


def candidates(
    environment: Environment, conditions: Conditions, *, most: int
) -> Iterator[Candidate]:
    """Give the clusters that an environment could make, the smallest first.

    The number of workers changes, fixed or adaptive; of Fargate also their CPU. Their memory is
    the most that goes with it: `fitted` gives less when it is known what they need.

    Parameters
    ----------
    environment : Environment
        Where the flow is to run.
    conditions : Conditions
        What holds for all of them.
    most : int
        At most so many workers.
    """
    for changes in _shapes(environment):
        shape = environment.replace(**changes) if changes else environment
        for n in COUNTS[: bisect.bisect_right(COUNTS, most)]:
            yield described(with_size(shape, n_workers=n), conditions)
            if n > 1:
                adaptive = with_size(shape, adaptive_min_workers=1, adaptive_max_workers=n)
                yield described(adaptive, conditions)


def with_size(environment: Environment, **size: int) -> Environment:
    """Give an environment another number of workers, or bounds in the place of one."""
    nothing = dict.fromkeys(("n_workers", "adaptive_min_workers", "adaptive_max_workers"))
    return environment.replace(**{**nothing, **size})


def described(environment: Environment, conditions: Conditions) -> Candidate:
    """Say what the cluster of an environment has and costs."""
    low, high = environment.adaptive or (environment.n_workers or 1, None)
    recorded = conditions.recorded
    nthreads, memory, cores = recorded.nthreads, recorded.memory_limit, conditions.cores
    rate = worker_hour_rate()
    if is_fargate(environment):
        asked = {**FARGATE, **environment.extra}
        nthreads = int(asked.get("worker_nthreads") or max(int(asked["worker_cpu"]) // 1024, 1))
        memory = int(asked["worker_mem"]) * 2**20
        cores = cores_of(environment)
        rate = _fargate(asked, conditions.region)
    size = Size(
        n_workers=low,
        maximum=high,
        nthreads=nthreads,
        memory=memory,
        speed=cores / conditions.cores,
        cores=0 if is_fargate(environment) else conditions.machine,
        interval=conditions.interval,
        startup=conditions.startup,
        fresh=conditions.fresh,
    )
    return Candidate(environment=environment, size=size, rate=rate)


def cores_of(environment: Environment) -> float:
    """Give the cores that each thread of a worker has, at most one; 1 where nobody knows."""
    if not is_fargate(environment):
        return 1.0
    asked = {**FARGATE, **environment.extra}
    cpu = int(asked["worker_cpu"]) / 1024
    return min(cpu / int(asked.get("worker_nthreads") or max(int(cpu), 1)), 1.0)


def bought_otherwise(environment: Environment, conditions: Conditions) -> dict[str, Rate]:
    """Give the rates of a Fargate cluster on Spot, on ARM and on both, but for what it is already.

    Its image must be one for ARM then, and what AWS takes back on Spot runs again elsewhere.
    """
    if not is_fargate(environment):
        return {}
    asked = {**FARGATE, **environment.extra}
    ways: dict[str, dict[str, Any]] = {
        "Spot": {"fargate_spot": True},
        "ARM": {"cpu_architecture": "ARM64"},
        "ARM Spot": {"fargate_spot": True, "cpu_architecture": "ARM64"},
    }
    return {
        word: _fargate({**asked, **way}, conditions.region)
        for word, way in ways.items()
        if any(asked.get(setting) != value for setting, value in way.items())
    }


def fitted(environment: Environment, peak_memory: float) -> Environment | None:
    """Give a Fargate environment the smallest memory that holds a peak with headroom.

    None where no size that goes with its CPU does.
    """
    cpu = int({**FARGATE, **environment.extra}["worker_cpu"])
    enough = [m for m in sizes.memories(cpu) if m * 2**20 >= peak_memory * HEADROOM]
    return environment.replace(worker_mem=enough[0]) if enough else None


def _shapes(environment: Environment) -> Iterator[dict[str, Any]]:
    if not is_fargate(environment):
        yield {}
        return
    for cpu in CPUS:
        # As much memory as goes with it: less is chosen when it is known what is needed.
        yield {"worker_cpu": cpu, "worker_mem": sizes.memories(cpu)[-1]}


def _fargate(asked: Mapping[str, Any], region: str) -> Rate:
    arm = str(asked.get("cpu_architecture", "")).upper() == "ARM64"
    scheduler, worker = (
        Task(
            cpu=int(asked[f"{what}_cpu"]),
            memory=int(asked[f"{what}_mem"]),
            arm=arm,
            spot=what == "worker" and bool(asked.get("fargate_spot")),
        )
        for what in ("scheduler", "worker")
    )
    return fargate_rate(region, scheduler=scheduler, worker=worker)
