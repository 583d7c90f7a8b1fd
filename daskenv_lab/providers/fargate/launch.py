"""The start of one cluster: its secret, its task definitions, its scheduler, and its first workers.

Workers are asked for as soon as the scheduler's network interface has an address, so that their
start and the scheduler's go on side by side.
"""

from __future__ import annotations

import warnings
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from daskenv_lab.bounded import Deadline, in_background
from daskenv_lab.errors import ClusterStartError, WaitTimeout
from daskenv_lab.providers.fargate import definitions, fleet, ingress, logs, tls, vault
from daskenv_lab.providers.fargate.aws import Aws, NotPermitted
from daskenv_lab.providers.fargate.fleet import Order, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskenv_lab.providers.contract import Progress
    from daskenv_lab.providers.fargate.settings import Settings
    from daskenv_lab.providers.fargate.shared import Shared
    from daskenv_lab.providers.fargate.tags import Identity
    from daskenv_lab.providers.fargate.tls import Tls

_LOG_LINES = 15
# What the user keeps secret must not take the place of the TLS material, which is called `key`.
_VARIABLE = "variable-"
LAST_CALL = 30.0
"""Seconds for a RunTask that is under way, with botocore's own attempts."""


class _Untouchable(Exception):
    pass


class SecretsInEnvironmentWarning(UserWarning):
    """Secrets go in task overrides, which whoever may describe tasks can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A cluster whose scheduler runs."""

    scheduler: Task
    identity: Identity
    workers: Order
    """What RunTask is told for each further worker."""

    first_workers: Future[list[Task]]
    patience: Deadline
    """How long workers are asked for."""

    def give_up(self) -> None:
        """Ask for no further workers, which would be nobody's, and wait for a call under way."""
        self.patience.expire()
        wait([self.first_workers], LAST_CALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivery:
    """How secrets reach the processes: from Secrets Manager, or in the open."""

    identity: Identity
    arn: str
    in_the_open: Mapping[str, str]


def launch(
    aws: Aws,
    shared: Shared,
    settings: Settings,
    identity: Identity,
    material: Tls | None,
    *,
    n_workers: int,
    deadline: Deadline,
    progress: Progress,
) -> Launched:
    """Start a scheduler and the first workers, and wait until the scheduler's task runs.

    Raises
    ------
    ClusterStartError
        The scheduler's task stopped, or AWS refuses it.
    WaitTimeout
        It does not run within the time limit; holds the last state seen.
    """
    variables = {f"{_VARIABLE}{name}": value for name, value in settings.secrets.items()}
    content = {**(material.to_dict() if material else {}), **variables}
    delivery = _deliver(aws, identity, content, settings)
    with ThreadPoolExecutor(2, thread_name_prefix="daskenv-define") as pool:
        roles = ("scheduler", "worker")
        arns = dict(
            zip(
                roles,
                pool.map(lambda r: _define(aws, shared, settings, delivery, material, r), roles),
                strict=True,
            )
        )
    progress("asking ECS for the scheduler")
    plan = _Plan(aws, shared, settings, delivery, material, arns)
    [scheduler] = fleet.run(aws, plan.scheduler(), 1, deadline=deadline, progress=progress)
    if shared.own_group and identity.allow:
        port = settings.scheduler_port
        ingress.allow(aws, shared.own_group, identity.allow, who=identity.who, port=port)
    scheduler = _wait_for(
        plan,
        scheduler,
        "an address",
        lambda t: t.private_ip,
        deadline,
        progress,
        longest_pause=1.0,  # the workers wait for this moment
    )
    address = f"{identity.protocol}://{scheduler.private_ip}:{settings.scheduler_port}"
    workers = plan.worker(address, deadline.seconds)
    patience = Deadline(deadline.left)
    first = in_background(lambda: plan.run_workers(workers, n_workers, patience, progress))
    try:
        scheduler = _wait_for(
            plan, scheduler, "its container", lambda t: t.status == "RUNNING", deadline, progress
        )
    except BaseException:
        # Or workers would be started after all others were stopped.
        patience.expire()
        wait([first], LAST_CALL)
        raise
    return Launched(
        scheduler=scheduler,
        identity=delivery.identity,
        workers=workers,
        first_workers=first,
        patience=patience,
    )


def why_stopped(aws: Aws, log_group: str, task: Task) -> str:
    """Say why a task stopped: ECS's words, and the last lines that it wrote."""
    written = logs.tail(aws, log_group, logs.stream(task), lines=_LOG_LINES)
    said = f"; its log ends with:\n{written}" if written else ""
    return f"{task.reason.rstrip('.') or 'ECS gives no reason'}{said}"


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that the requests of one cluster are written from."""

    aws: Aws
    shared: Shared
    settings: Settings
    delivery: _Delivery
    material: Tls | None
    definitions: Mapping[str, str]

    def scheduler(self) -> Order:
        s = self.settings
        command = definitions.scheduler_command(
            port=s.scheduler_port,
            dashboard_port=s.dashboard_port,
            idle_timeout=s.idle_timeout,
            tls=self.material is not None,
            extra=s.scheduler_extra_args,
        )
        return self._order("scheduler", command, s.fargate_scheduler, s.scheduler_task_kwargs)

    def worker(self, address: str, death_timeout: float) -> Order:
        s = self.settings
        command = definitions.worker_command(
            address,
            nthreads=s.worker_nthreads,
            memory=s.worker_mem,
            death_timeout=death_timeout,
            gpu=bool(s.worker_gpu),
            tls=self.material is not None,
            extra=s.worker_extra_args,
        )
        return self._order("worker", command, s.fargate_workers, s.worker_task_kwargs)

    def run_workers(
        self, order: Order, n: int, deadline: Deadline, progress: Progress
    ) -> list[Task]:
        try:
            return fleet.run(self.aws, order, n, deadline=deadline, progress=progress)
        except WaitTimeout as late:
            progress(str(late))  # The scheduler runs; workers can be asked for again.
            return []

    def _order(
        self, role: str, command: list[str], fargate: bool, further: Mapping[str, Any]
    ) -> Order:
        s, identity = self.settings, self.delivery.identity
        provider = {"scheduler": "FARGATE", "worker": "FARGATE_SPOT"}[role] if s.spot else None
        return Order(
            ecs_cluster=self.shared.cluster_arn,
            started_by=identity.started_by,
            request=fleet.request(
                definition=self.definitions[role],
                container=f"dask-{role}",
                command=command,
                env_vars=_overrides(s, self.delivery, self.material, role),
                subnets=self.shared.subnets,
                security_groups=self.shared.security_groups,
                public=fargate and not s.private,
                fargate=fargate,
                capacity_provider=provider,
                platform_version=s.platform_version,
                tags={**s.tags, **identity.tags(role=role)},
                further=further,
            ),
        )


def _deliver(
    aws: Aws, identity: Identity, content: Mapping[str, str], settings: Settings
) -> _Delivery:
    """Keep the secrets where containers read them; in the open only where that cannot be."""
    if not content:
        return _Delivery(identity=identity, arn="", in_the_open={})
    try:
        if settings.scheduler_definition or settings.worker_definition:
            raise _Untouchable("a task definition that you gave cannot be made to read secrets")
        kept = vault.put(aws, lambda name: replace(identity, secret=name), content)
    except (NotPermitted, _Untouchable) as why:
        warnings.warn(
            f"{why}; the cluster's TLS key and secret variables go in its tasks' overrides, "
            "where whoever may describe tasks can read them",
            SecretsInEnvironmentWarning,
            stacklevel=2,
        )
        return _Delivery(identity=identity, arn="", in_the_open=content)
    return _Delivery(identity=replace(identity, secret=kept.name), arn=kept.arn, in_the_open={})


def _parts(material: Tls | None, role: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """Name each secret variable of a role, and the part of the kept content that it holds."""
    own = tls.variables(role) if material else {}
    return {**own, **{name: f"{_VARIABLE}{name}" for name in secrets}}


def _overrides(
    settings: Settings, delivery: _Delivery, material: Tls | None, role: str
) -> dict[str, str]:
    """Give the process variables that no task definition of ours holds."""
    parts = _parts(material, role, settings.secrets) if delivery.in_the_open else {}
    secret = {name: delivery.in_the_open[part] for name, part in parts.items()}
    given = settings.scheduler_definition if role == "scheduler" else settings.worker_definition
    plain = {**(tls.ENCRYPTED if material else {}), **settings.env_vars} if given else {}
    return {**plain, **secret}


def _define(
    aws: Aws,
    shared: Shared,
    settings: Settings,
    delivery: _Delivery,
    material: Tls | None,
    role: str,
) -> str:
    """Find or register the task definition of a role."""
    worker = role == "worker"
    given = settings.worker_definition if worker else settings.scheduler_definition
    if given:
        return given
    mounts = worker or settings.mount_on_scheduler
    secrets = _parts(material, role, settings.secrets) if delivery.arn else {}
    return definitions.ensure(
        aws,
        definitions.definition(
            role,
            image=settings.image,
            cpu=settings.worker_cpu if worker else settings.scheduler_cpu,
            memory=settings.worker_mem if worker else settings.scheduler_mem,
            gpu=settings.worker_gpu if worker else None,
            architecture=settings.architecture,
            fargate=settings.fargate_workers if worker else settings.fargate_scheduler,
            execution_role_arn=shared.execution_role_arn,
            task_role_arn=shared.task_role_arn,
            log_group=shared.log_group,
            region=aws.region,
            env_vars={**(tls.ENCRYPTED if material else {}), **settings.env_vars},
            secrets={name: f"{delivery.arn}:{part}::" for name, part in secrets.items()},
            mount_points=settings.mount_points if mounts else (),
            volumes=settings.volumes if mounts else (),
            tags=settings.tags,
        ),
    )


def _wait_for(
    plan: _Plan,
    task: Task,
    what: str,
    there: Any,
    deadline: Deadline,
    progress: Progress,
    *,
    longest_pause: float = 3.0,
) -> Task:
    """Wait until something is true of the scheduler's task."""
    ecs_cluster = plan.shared.cluster_arn
    told = ""

    def done(found: list[Task]) -> bool:
        nonlocal told
        if found[0].status != told:
            told = found[0].status
            progress(f"the scheduler's task is {told}")
        return bool(there(found[0])) or not found[0].wanted

    [task] = fleet.wait(
        plan.aws, ecs_cluster, [task.arn], done, deadline=deadline, longest_pause=longest_pause
    )
    if there(task):
        return task
    if not task.wanted:
        raise ClusterStartError(
            f"the scheduler's task stopped while it waited for {what}: "
            f"{why_stopped(plan.aws, plan.shared.log_group, task)}\nlook with `daskenv doctor "
            "fargate`, or change the settings"
        )
    raise WaitTimeout(
        f"the scheduler's task is still {task.status}, waiting for {what}, after "
        f"{deadline.seconds:g} s; raise daskenv.timeouts.start, or look with `daskenv doctor "
        "fargate`"
    )
