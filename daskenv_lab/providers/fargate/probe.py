"""What an image holds, seen by a task that runs for a moment; compared with this process."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskenv_lab import config
from daskenv_lab.bounded import Deadline
from daskenv_lab.errors import ClusterStartError, ProviderError, WaitTimeout
from daskenv_lab.providers.fargate import definitions, fleet, logs, vault
from daskenv_lab.providers.fargate.fleet import Order
from daskenv_lab.providers.fargate.launch import why_stopped
from daskenv_lab.providers.fargate.tags import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskenv_lab.environments import DaskCloudProviderEnvironment
    from daskenv_lab.providers.contract import Progress
    from daskenv_lab.providers.fargate.aws import Aws
    from daskenv_lab.providers.fargate.fleet import Task
    from daskenv_lab.providers.fargate.settings import Settings
    from daskenv_lab.providers.fargate.shared import Shared

PACKAGES = ("dask", "distributed", "cloudpickle", "prefect")

_MARK = "daskenv-probe"
_NAME = "doctor probe"
"""The tasks' name in their tags: with a space, which no cluster's name has."""

_LOG_DELAY = 20.0
"""Seconds until CloudWatch shows what a task wrote before it ended."""

_LOG_LINES = 200
_SCRIPT = f"""
import importlib.metadata, json, platform
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
found = {{name: version(name) for name in {PACKAGES!r}}}
found["python"] = platform.python_version()
print("{_MARK}", json.dumps(found), flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One package, there and here.

    Examples
    --------
    >>> Version(package="dask", image="2026.1.0", here="2026.8.0").verdict
    'warning'
    """

    package: str
    """``python``, or a distribution's name."""

    image: str | None
    here: str | None
    """None where it is not installed."""

    @property
    def verdict(self) -> str:
        """Whether the two go together: ``good``, ``warning`` or ``bad``."""
        if self.package == "prefect":
            # Flows travel with their package; without it the image still runs plain Dask.
            return "good" if _parts(self.image, 1) == _parts(self.here, 1) else "warning"
        if self.image is None:
            return "bad"
        if self.package == "python":
            # Functions are pickled as byte code, which each minor version has its own of.
            return "good" if _parts(self.image, 2) == _parts(self.here, 2) else "bad"
        return "good" if self.image == self.here else "warning"


def versions(
    environment: DaskCloudProviderEnvironment,
    aws: Aws,
    shared: Shared,
    settings: Settings,
    *,
    progress: Progress,
) -> tuple[Version, ...]:
    """Run the workers' image once, for as long as it takes to print its versions.

    Whatever happens, the task is stopped. It carries the tags of a cluster of its own, so that
    `reap` finds it if this process is killed.

    Raises
    ------
    ClusterStartError
        The task stopped before it told; ECS's reason and its log's last lines are in the message.
    WaitTimeout
        It did not end within ``daskenv.timeouts.start``.
    AuthenticationFailed, ProviderUnreachable, AwsRefused
    """
    deadline = Deadline(config.seconds("timeouts.start"))
    order = _order(environment, aws, shared, settings)
    ecs_cluster = shared.cluster_arn
    with contextlib.ExitStack() as undo:
        progress(f"asking ECS to run {settings.image} for a moment")
        undo.callback(_stop_all, aws, order)
        [task] = fleet.run(aws, order, 1, deadline=deadline, progress=progress)
        task = _ended(aws, ecs_cluster, task, deadline, progress)
    return _read(aws, shared.log_group, task)


def _order(
    environment: DaskCloudProviderEnvironment, aws: Aws, shared: Shared, settings: Settings
) -> Order:
    identity = Identity(
        cluster=vault.token(),
        name=_NAME,
        owner=config.owner(),
        fingerprint=environment.fingerprint,
    )
    fargate = settings.fargate_workers
    return Order(
        ecs_cluster=shared.cluster_arn,
        started_by=identity.started_by,
        request=fleet.request(
            definition=settings.worker_definition or _define(aws, shared, settings),
            container="dask-worker",
            command=["python", "-c", _SCRIPT],
            env_vars={},
            subnets=shared.subnets,
            security_groups=shared.security_groups,
            public=fargate and not settings.private,
            fargate=fargate,
            capacity_provider=None,
            platform_version=settings.platform_version,
            tags={**settings.tags, **identity.tags(role="probe")},
            further=settings.worker_task_kwargs,
        ),
    )


def _define(aws: Aws, shared: Shared, settings: Settings) -> str:
    """Find or register the workers' task definition, without their secrets."""
    return definitions.ensure(
        aws,
        definitions.definition(
            "worker",
            image=settings.image,
            cpu=settings.worker_cpu,
            memory=settings.worker_mem,
            gpu=settings.worker_gpu,
            architecture=settings.architecture,
            fargate=settings.fargate_workers,
            execution_role_arn=shared.execution_role_arn,
            task_role_arn=shared.task_role_arn,
            log_group=shared.log_group,
            region=aws.region,
            env_vars=settings.env_vars,
            secrets={},
            mount_points=settings.mount_points,
            volumes=settings.volumes,
            tags=settings.tags,
        ),
    )


def _ended(aws: Aws, ecs_cluster: str, task: Task, deadline: Deadline, progress: Progress) -> Task:
    told = ""

    def done(found: list[Task]) -> bool:
        nonlocal told
        if found[0].status != told:
            told = found[0].status
            progress(f"the probe's task is {told}")
        return told == "STOPPED"

    [task] = fleet.wait(aws, ecs_cluster, [task.arn], done, deadline=deadline)
    if task.status != "STOPPED":
        raise WaitTimeout(
            f"the probe's task is still {task.status} after {deadline.seconds:g} s, and was "
            "stopped; raise daskenv.timeouts.start, or look at the image and the network"
        )
    return task


def _read(aws: Aws, log_group: str, task: Task) -> tuple[Version, ...]:
    """Find the versions in the log of a task that ended."""
    if task.exit_code != 0:
        raise ClusterStartError(
            f"the image did not run: {why_stopped(aws, log_group, task)}; mend the image, its name "
            "or the network"
        )
    place = logs.place_of(aws, task, log_group)
    if place.unreadable:
        raise ProviderError(f"{place.unreadable}; give a definition that writes to CloudWatch Logs")
    patience = Deadline(_LOG_DELAY)
    while True:
        for line in logs.tail(aws, place.group, place.stream(task), lines=_LOG_LINES).splitlines():
            if line.startswith(_MARK):
                return _compared(json.loads(line.removeprefix(_MARK)))
        if patience.passed:
            raise WaitTimeout(
                f"the probe's task ended well, and its log {place.stream(task)} has shown nothing "
                f"for {_LOG_DELAY:g} s; try again"
            )
        patience.pause(1.0)


def _compared(there: Mapping[str, Any]) -> tuple[Version, ...]:
    here = {"python": platform.python_version(), **{name: _installed(name) for name in PACKAGES}}
    return tuple(
        Version(package=name, image=there.get(name), here=version) for name, version in here.items()
    )


def _stop_all(aws: Aws, order: Order) -> None:
    """Stop the task, also one whose start was not heard of."""
    tasks = fleet.of_cluster(aws, order.ecs_cluster, order.started_by)
    fleet.stop(aws, order.ecs_cluster, [t.arn for t in tasks], reason="daskenv doctor")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _parts(version: str | None, n: int) -> list[str]:
    return (version or "").split(".")[:n]
