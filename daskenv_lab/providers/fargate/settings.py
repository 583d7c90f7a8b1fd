"""What an environment asks of AWS, checked; and what dask-cloudprovider makes of it."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask
from dask.utils import parse_timedelta
from dask_cloudprovider.aws import ECSCluster as _ECSCluster
from dask_cloudprovider.aws import FargateCluster as _FargateCluster
from distributed.core import Status
from distributed.deploy.spec import SpecCluster

from daskenv_lab import config, sizes
from daskenv_lab.bounded import in_background
from daskenv_lab.environments import DaskCloudProviderEnvironment, Environment
from daskenv_lab.environments.secret import Secret
from daskenv_lab.errors import EnvironmentValueError, did_you_mean
from daskenv_lab.providers.fargate import ingress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESOURCES = (
    "cluster_arn",
    "execution_role_arn",
    "task_role_arn",
    "cloudwatch_logs_group",
    "security_groups",
    "subnets",
    "vpc",
)
"""Arguments that name a resource of the user's, in place of one of the shared set."""

_ACCESS = ("region_name", "aws_access_key_id", "aws_secret_access_key")
_OWN = ("allow_from",)
_IN_THE_WAY = {
    "scheduler_address": "use a `remote` environment for a scheduler that runs already",
    "task_role_policies": "the task role is shared; give the ARN of a role of yours as "
    "task_role_arn",
    "asynchronous": "the session's methods wait by themselves",
    "loop": "the session has its own",
    "shutdown_on_close": "the cluster lives on until `daskenv down`",
    "scheduler": "give image, scheduler_extra_args and the like",
    "worker": "give image, worker_extra_args and the like",
    "workers": "give n_workers",
}
_FURTHER = ("scheduler_task_kwargs", "worker_task_kwargs")
_FOUND_BY = ("cluster", "startedBy", "count", "clientToken")
"""Arguments of RunTask by which tasks are counted and found again."""

_RESOLVE_LIMIT = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one cluster in AWS is to be, every default filled in; sizes in AWS's own units."""

    fargate_scheduler: bool
    fargate_workers: bool
    spot: bool
    image: str
    architecture: str

    scheduler_cpu: int
    scheduler_mem: int
    """MiB."""
    scheduler_port: int
    dashboard_port: int
    idle_timeout: float
    """Seconds without tasks and clients after which the cluster ends; 0 means never."""
    scheduler_extra_args: tuple[str, ...]
    scheduler_definition: str | None
    scheduler_task_kwargs: Mapping[str, Any]

    worker_cpu: int
    worker_mem: int
    """MiB."""
    worker_nthreads: int
    worker_gpu: int | None
    worker_extra_args: tuple[str, ...]
    worker_definition: str | None
    worker_task_kwargs: Mapping[str, Any]

    env_vars: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    """Process variables of the containers that hold secrets, and the secrets."""

    private: bool
    """Whether clients reach the scheduler by its private address."""
    platform_version: str | None
    mount_points: Sequence[Mapping[str, Any]]
    volumes: Sequence[Mapping[str, Any]]
    mount_on_scheduler: bool
    tags: Mapping[str, str]


def check(environment: Environment) -> DaskCloudProviderEnvironment:
    """Check that an environment is one for AWS, with arguments that its class knows.

    Raises
    ------
    EnvironmentValueError
        An argument is unknown, stands in the way of a shared cluster, or is no valid size.
    """
    if not isinstance(environment, DaskCloudProviderEnvironment) or not environment.short_name:
        raise TypeError(f"{type(environment).__name__} names no cluster class of AWS")
    known = set(inspect.signature(_ECSCluster.__init__).parameters) - {"self", "kwargs"}
    for name in environment.provider_kwargs:
        if name in _IN_THE_WAY:
            raise EnvironmentValueError(
                f"{name} cannot be given to a cluster that outlives this process; "
                f"{_IN_THE_WAY[name]}"
            )
        if name not in known and name not in (*_OWN, "name"):
            raise EnvironmentValueError(
                f"{environment.provider_class} has no argument {name!r}; "
                f"{did_you_mean(name, known | set(_OWN))}"
            )
    for name in _FURTHER:
        if taken := [w for w in environment.provider_kwargs.get(name) or () if w in _FOUND_BY]:
            raise EnvironmentValueError(
                f"{name} cannot hold {taken[0]!r}, by which a cluster's tasks are found again; "
                "leave it out"
            )
    if (given := environment.provider_kwargs.get("allow_from")) is not None:
        ingress.network(given)
    return environment


def resources(environment: DaskCloudProviderEnvironment) -> dict[str, Any]:
    """Give the resources that the user named, in arguments or dask-cloudprovider's settings."""
    configured = dask.config.get("cloudprovider.ecs", {})
    found = {}
    for name in RESOURCES:
        value = environment.provider_kwargs.get(name) or configured.get(name)
        if value and not (name == "vpc" and value == "default"):
            found[name] = value
    return found


def resolve(environment: DaskCloudProviderEnvironment) -> Settings:
    """Fill in what is not given, as dask-cloudprovider does it: its own settings and defaults.

    Raises
    ------
    EnvironmentValueError
        An argument is ill-typed, or CPU and memory do not go together.
    """
    given = {
        k: v
        for k, v in environment.provider_kwargs.items()
        if k not in (*_OWN, *_ACCESS, "name", "environment")
    }
    on_fargate = environment.short_name == "fargate"
    try:
        # In a thread: a notebook's own event loop runs in this one.
        cluster = in_background(lambda: asyncio.run(_filled(on_fargate, given))).result(
            _RESOLVE_LIMIT
        )
        settings = _taken(cluster, environment)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        if isinstance(error, EnvironmentValueError):
            raise
        raise EnvironmentValueError(
            f"{environment.provider_class} cannot be made with these arguments ({error}); look at "
            "the arguments of that class"
        ) from error
    _check_sizes(settings)
    return settings


class _Specified(SpecCluster):
    """Stands under dask-cloudprovider's class, where that has worked out all it would start.

    Nothing is started there: the scheduler, its workers and their way to outlive this process
    are `Fleet`'s.
    """

    async def _start(self) -> None:
        self.status = Status.closed


class _WithoutTraps:
    """Takes out of dask-cloudprovider's class what calls AWS, and what misleads."""

    async def _no_definition(self) -> str:
        return ""

    _create_scheduler_task_definition_arn = _no_definition
    _create_worker_task_definition_arn = _no_definition

    def _check_scheduler_port_config(self) -> None:
        """Skip a check that fails unless ``--port`` comes first."""

    def _check_scheduler_tls_config(self) -> None:
        """Skip a check that always warns."""


class _OnEcs(_WithoutTraps, _ECSCluster, _Specified):
    pass


class _OnFargate(_WithoutTraps, _FargateCluster, _Specified):
    pass


async def _filled(on_fargate: bool, given: dict[str, Any]) -> Any:
    named = {name: given.get(name) or "here" for name in RESOURCES}
    cls = _OnFargate if on_fargate else _OnEcs
    cluster = cls(**{**given, **named, "asynchronous": True, "skip_cleanup": True})
    cluster.cluster_name = "here"
    await cluster._start()
    return cluster


def _taken(cluster: Any, environment: DaskCloudProviderEnvironment) -> Settings:
    scheduler, worker = cluster.scheduler_spec["options"], cluster.new_spec["options"]
    cpu, gpu = _whole("worker_cpu", worker["cpu"]), worker["gpu"] or None
    secret, plain = _split(
        {
            **(dask.config.get("cloudprovider.ecs.environment", {}) or {}),
            **environment.provider_kwargs.get("environment", {}),
        }
    )
    configured = dask.config.get("cloudprovider.ecs", {})
    return Settings(
        fargate_scheduler=bool(scheduler["fargate"]),
        fargate_workers=bool(worker["fargate"]),
        spot=worker["fargate_capacity_provider"] == "FARGATE_SPOT",
        image=cluster.image,
        architecture=cluster._cpu_architecture,
        scheduler_cpu=_whole("scheduler_cpu", cluster._scheduler_cpu),
        scheduler_mem=_whole("scheduler_mem", cluster._scheduler_mem),
        scheduler_port=_whole(
            "scheduler_port",
            environment.provider_kwargs.get("scheduler_port")
            or configured.get("scheduler_port")
            or scheduler["port"],
        ),
        dashboard_port=8787,
        idle_timeout=_idle(environment.provider_kwargs.get("scheduler_timeout")),
        scheduler_extra_args=tuple(map(str, scheduler["scheduler_extra_args"] or ())),
        scheduler_definition=scheduler["task_definition_arn"] or None,
        scheduler_task_kwargs=scheduler["task_kwargs"] or {},
        worker_cpu=cpu,
        worker_mem=_whole("worker_mem", worker["mem"]),
        worker_nthreads=max(cpu // 1024, 1) if worker["nthreads"] is None else worker["nthreads"],
        worker_gpu=gpu,
        worker_extra_args=tuple(map(str, worker["extra_args"] or ())),
        worker_definition=worker["task_definition_arn"] or None,
        worker_task_kwargs=worker["task_kwargs"] or {},
        env_vars=plain,
        secrets=secret,
        # dask-cloudprovider ignores its own setting for this, as its argument is never None.
        private=bool(
            environment.provider_kwargs.get("fargate_use_private_ip")
            or configured.get("fargate_use_private_ip")
        )
        or not scheduler["fargate"],
        platform_version=scheduler["platform_version"],
        mount_points=cluster._mount_points or (),
        volumes=cluster._volumes or (),
        mount_on_scheduler=bool(cluster._mount_volumes_on_scheduler),
        tags=cluster._tags or {},
    )


def _split(env_vars: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Part the secrets from the others."""
    secret = {k: config.resolve_secrets(v) for k, v in env_vars.items() if isinstance(v, Secret)}
    plain = {k: str(v) for k, v in env_vars.items() if not isinstance(v, Secret)}
    return secret, plain


def _idle(given: Any) -> float:
    """Give the seconds that the user asked for, or those of our own configuration."""
    if given is None:
        return config.seconds("fargate.idle-timeout")
    try:
        return float(parse_timedelta(given))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise EnvironmentValueError(
            f"scheduler_timeout={given!r} is no duration; write it as '30 minutes'"
        ) from error


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).isdigit():
        raise EnvironmentValueError(
            f"{name}={value!r} is no whole number; AWS counts CPU in 1/1024, and memory in MiB"
        )
    return int(value)


def _check_sizes(settings: Settings) -> None:
    if settings.fargate_scheduler and not settings.scheduler_definition:
        sizes.check(settings.scheduler_cpu, settings.scheduler_mem, what="scheduler")
    if settings.fargate_workers and not settings.worker_definition:
        sizes.check(settings.worker_cpu, settings.worker_mem, what="worker")
    if settings.fargate_workers and settings.worker_gpu:
        raise EnvironmentValueError(
            f"worker_gpu={settings.worker_gpu} was asked for, and Fargate has no GPUs; use the "
            "kind `ecs` with the ARN of a cluster of GPU instances as cluster_arn"
        )
