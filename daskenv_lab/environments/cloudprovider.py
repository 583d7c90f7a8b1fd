"""An environment for a cluster class of dask-cloudprovider, or any other cluster class."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from daskenv_lab.environments.base import Environment
from daskenv_lab.errors import EnvironmentValueError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskenv_lab.environments.checks import Hook

PROVIDER_CLASSES = {
    "fargate": "dask_cloudprovider.aws.FargateCluster",
    "ecs": "dask_cloudprovider.aws.ECSCluster",
}
"""Short names, and the classes that they mean."""

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


@dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class DaskCloudProviderEnvironment(Environment):
    """Run flows on a cluster that a class such as ``FargateCluster`` makes.

    The keyword arguments are those of Prefect 0.x's class of the same name:
    https://docs.prefect.io/orchestration/execution/dask_cloud_provider_environment

    Parameters
    ----------
    provider_class : type or str
        The class, its dotted path, or a short name: ``"fargate"``, ``"ecs"``.
    adaptive_min_workers, adaptive_max_workers : int, optional
        Bounds of adaptive scaling; one given alone makes the minimum 1 or the maximum equal.
    n_workers : int, optional
        A fixed number of workers.
    security : bool, mapping or distributed.Security, optional
        TLS for the connections to the scheduler.
    executor_kwargs : mapping, optional
        Further arguments for the Dask client.
    labels : list of str, optional
        Words that tag the deployment.
    on_execute : callable, optional
        ``on_execute(parameters, provider_kwargs)`` may change the provider's arguments of one run.
    on_start, on_exit : callable, optional
        Called before and after a flow run.
    metadata : mapping, optional
        Free notes, stored with the deployment.
    rehearse : bool
        Use an emulated AWS account on this machine, for the two classes of AWS; an export leaves
        it out.
    **provider_kwargs
        What the class's constructor gets.

    Raises
    ------
    EnvironmentValueError
        An argument is ill-typed, nearly one of ours, or contradicts another.

    Examples
    --------
    >>> DaskCloudProviderEnvironment("fargate", n_workers=4, image="ghcr.io/example/flows:1")
    DaskCloudProviderEnvironment(provider_class='dask_cloudprovider.aws.FargateCluster', \
n_workers=4, image='ghcr.io/example/flows:1')
    """

    kind: ClassVar[str] = "cloudprovider"

    provider_class: str
    """The cluster class's dotted path."""

    rehearse: bool
    """Whether the AWS account is an emulated one on this machine."""

    def __init__(
        self,
        provider_class: type | str,
        *,
        adaptive_min_workers: int | None = None,
        adaptive_max_workers: int | None = None,
        n_workers: int | None = None,
        security: Any = None,
        executor_kwargs: Mapping[str, Any] | None = None,
        labels: Any = None,
        on_execute: Hook | None = None,
        on_start: Hook | None = None,
        on_exit: Hook | None = None,
        metadata: Mapping[str, Any] | None = None,
        rehearse: bool = False,
        **provider_kwargs: Any,
    ) -> None:
        self._put("provider_class", _class_path(provider_class))
        self._put("rehearse", self._checked_rehearse(rehearse))
        self._set_shared(
            n_workers=n_workers,
            adaptive_min_workers=adaptive_min_workers,
            adaptive_max_workers=adaptive_max_workers,
            security=security,
            executor_kwargs=executor_kwargs,
            labels=labels,
            on_execute=on_execute,
            on_start=on_start,
            on_exit=on_exit,
            metadata=metadata,
            extra=provider_kwargs,
        )

    @property
    def short_name(self) -> str | None:
        """``fargate`` or ``ecs``, or None for any other class."""
        named = {path: name for name, path in PROVIDER_CLASSES.items()}
        return named.get(self.provider_class)

    def _checked_rehearse(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise EnvironmentValueError(
                f"rehearse={value!r} is a {type(value).__name__}; it takes True or False"
            )
        if value and self.short_name is None:
            raise EnvironmentValueError(
                f"rehearse=True was given for {self.provider_class}; only "
                f"{' and '.join(PROVIDER_CLASSES)} can be rehearsed on this machine"
            )
        return value

    @property
    def provider_kwargs(self) -> Mapping[str, Any]:
        """What the class's constructor gets, besides the number of workers and security."""
        return self.extra


def _class_path(value: Any) -> str:
    if isinstance(value, type):
        # FargateCluster lives in dask_cloudprovider.aws.ecs and is offered one floor up; both
        # spellings must give equal environments.
        path = f"{value.__module__}.{value.__qualname__}"
        public = {
            f"dask_cloudprovider.aws.ecs.{p.rsplit('.', 1)[1]}": p
            for p in PROVIDER_CLASSES.values()
        }
        if "<locals>" not in path and value.__module__ != "__main__":
            return public.get(path, path)
        raise EnvironmentValueError(
            f"provider_class is {path}, which no module offers; move the class to the top level of "
            "a module that can be imported"
        )
    if isinstance(value, str):
        if value in PROVIDER_CLASSES:
            return PROVIDER_CLASSES[value]
        if _DOTTED.fullmatch(value):
            return value
        raise EnvironmentValueError(
            f"provider_class={value!r} is neither a short name nor a dotted path; "
            f"{did_you_mean(value, PROVIDER_CLASSES)}"
        )
    raise EnvironmentValueError(
        f"provider_class={value!r} is a {type(value).__name__}; give the cluster class itself, its "
        "dotted path, or 'fargate' or 'ecs'"
    )
