"""What the processes of a cluster wrote, read from CloudWatch Logs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from daskenv_lab.providers.fargate import fleet
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused
from daskenv_lab.providers.fargate.definitions import FAMILY

if TYPE_CHECKING:
    from daskenv_lab.providers.fargate.fleet import Task

_READERS = 4


def stream(task: Task) -> str:
    """Name a task's stream, as ECS does."""
    return f"{FAMILY}/{task.container}/{task.id}"


def tail(aws: Aws, group: str, name: str, *, lines: int) -> str:
    """Give the last lines of a stream; empty if nothing was written yet.

    Raises
    ------
    NotPermitted, ProviderUnreachable
    """
    try:
        told = aws.call(
            "logs",
            "get_log_events",
            logGroupName=group,
            logStreamName=name,
            limit=min(max(lines, 1), 10_000),
            startFromHead=False,
        )
    except AwsRefused as refused:
        if refused.code != "ResourceNotFoundException":
            raise
        return ""
    return "\n".join(e["message"].rstrip("\n") for e in told["events"][-lines:])


def of_cluster(aws: Aws, ecs_cluster: str, cluster: str, group: str, lines: int) -> dict[str, str]:
    """Give the last lines of each task of a cluster, the stopped ones' too, by address."""
    tasks = [
        t
        for stopped in (False, True)
        for t in fleet.of_everybody(aws, ecs_cluster, stopped=stopped)
        if t.identity and t.identity.cluster == cluster
    ]
    tasks.sort(key=lambda t: t.role)
    named = {"scheduler" if t.role == "scheduler" else t.private_ip or t.id: t for t in tasks}
    with ThreadPoolExecutor(_READERS, thread_name_prefix="daskenv-logs") as pool:
        told = pool.map(lambda t: tail(aws, group, stream(t), lines=lines), named.values())
        return dict(zip(named, told, strict=True))
