"""What a cluster costs an hour, from a table of prices that has a date and can be replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from daskenv_lab import config
from daskenv_lab.errors import ConfigError

FARGATE_LEAST = 60.0
"""Seconds that AWS bills for a Linux task at least; https://aws.amazon.com/fargate/pricing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a cluster of any number of workers costs.

    Examples
    --------
    >>> Rate(base=0.05, worker=0.25, source="example").hourly(2)
    0.55
    """

    base: float
    """US dollars an hour for what is there without any worker."""

    worker: float
    """US dollars an hour for each worker."""

    source: str
    """Where the figures come from, such as ``Fargate in us-east-1, prices of 2026-03``."""

    least: float = 0.0
    """Seconds that are billed for each worker, and for what is there without one, at least."""

    def hourly(self, n_workers: int) -> float:
        """Give US dollars an hour for so many workers."""
        return self.base + self.worker * n_workers

    def run(self, seconds: float, workers: Iterable[float]) -> float:
        """Give US dollars for one use of a cluster.

        Parameters
        ----------
        seconds : float
            For which the cluster is there.
        workers : iterable of float
            Seconds for which each worker is there.
        """
        working = sum(max(spent, self.least) for spent in workers)
        return (self.base * max(seconds, self.least) + self.worker * working) / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The size of one Fargate task, as it is billed."""

    cpu: int
    """CPU units; 1024 are one virtual CPU."""

    memory: int
    """MiB."""

    arm: bool = False
    spot: bool = False


def fargate_rate(region: str, *, scheduler: Task | None, worker: Task | None) -> Rate:
    """Give the rate of a cluster whose scheduler and workers are Fargate tasks.

    A region that the table lacks is billed at the first one's prices, and the source says so.

    Parameters
    ----------
    region : str
        The name that AWS has for it.
    scheduler, worker : Task, optional
        None for what does not run on Fargate.

    Raises
    ------
    ConfigError
        ``daskenv.prices.fargate`` is no table of prices.

    Examples
    --------
    >>> size = Task(cpu=1024, memory=2048)
    >>> round(fargate_rate("us-east-1", scheduler=size, worker=size).hourly(1), 5)
    0.09874
    """
    table = config.get("prices.fargate")
    regions = table.get("regions") if isinstance(table, Mapping) else None
    if not isinstance(regions, Mapping) or not regions:
        raise ConfigError(
            f"daskenv.prices.fargate is {table!r}; it takes 'as-of' and 'regions', each with "
            "vcpu-hour, gb-hour, arm-vcpu-hour, arm-gb-hour and spot"
        )
    known = region if region in regions else next(iter(regions))
    source = f"Fargate in {known}, prices of {table.get('as-of')}"
    if known != region:
        source += f"; daskenv.prices.fargate has none for {region}"
    prices = regions[known]
    return Rate(
        base=_task_price(prices, scheduler),
        worker=_task_price(prices, worker),
        source=source,
        least=FARGATE_LEAST,
    )


def worker_hour_rate() -> Rate | None:
    """Give the rate of a cluster that somebody else runs, if ``daskenv.prices.worker-hour`` is set.

    Raises
    ------
    ConfigError
        It is no price.

    Examples
    --------
    >>> worker_hour_rate() is None
    True
    """
    price = config.get("prices.worker-hour")
    if price is None:
        return None
    return Rate(base=0.0, worker=_price("worker-hour", price), source="daskenv.prices.worker-hour")


def _task_price(prices: Mapping[str, Any], task: Task | None) -> float:
    if task is None:
        return 0.0
    kind = "arm-" if task.arm else ""
    words = (f"{kind}vcpu-hour", f"{kind}gb-hour")
    vcpu, gb = (_price(f"fargate: {word}", prices.get(word)) for word in words)
    whole = vcpu * task.cpu / 1024 + gb * task.memory / 1024
    return whole * (_price("fargate: spot", prices.get("spot")) if task.spot else 1.0)


def _price(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ConfigError(f"daskenv.prices.{key} is {value!r}; it takes US dollars, as in 0.04")
    return float(value)
