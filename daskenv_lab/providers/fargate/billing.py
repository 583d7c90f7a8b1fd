"""What a cluster's tasks cost, by the sizes that are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskenv_lab.prices import Rate, Task, fargate_rate
from daskenv_lab.providers.fargate import settings as asked

if TYPE_CHECKING:
    from daskenv_lab.environments import DaskCloudProviderEnvironment


def rate(environment: DaskCloudProviderEnvironment, region: str) -> Rate | None:
    """Give the rate of a cluster; None where its tasks' sizes are not ours to know.

    Instances of the user's own (ECS) are not counted: they cost the same without the cluster.

    Examples
    --------
    >>> from daskenv_lab import DaskCloudProviderEnvironment
    >>> round(rate(DaskCloudProviderEnvironment("fargate"), "us-east-1").worker, 3)
    0.233
    """
    settings = asked.resolve(environment)
    if settings.scheduler_definition or settings.worker_definition:
        return None
    arm = settings.architecture.upper() == "ARM64"
    scheduler = Task(cpu=settings.scheduler_cpu, memory=settings.scheduler_mem, arm=arm)
    worker = Task(cpu=settings.worker_cpu, memory=settings.worker_mem, arm=arm, spot=settings.spot)
    found = fargate_rate(
        region,
        scheduler=scheduler if settings.fargate_scheduler else None,
        worker=worker if settings.fargate_workers else None,
    )
    if environment.rehearse:
        return Rate(
            base=found.base,
            worker=found.worker,
            source=f"{found.source}; the rehearsal costs nothing",
            least=found.least,
        )
    return found
