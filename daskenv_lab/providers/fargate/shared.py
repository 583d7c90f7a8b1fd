"""The shared set of AWS resources: looked at, found, made and removed as one.

There is one for each account and region; `resource` has the names. Each part carries our tags
from the call that makes it, and what makes it whole comes last, so that a set whose maker was
killed is seen to be damaged and is mended by the next.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from daskenv_lab import config
from daskenv_lab.bounded import Deadline
from daskenv_lab.errors import StateError, WaitTimeout
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused
from daskenv_lab.providers.fargate.parts import look_at_all, together
from daskenv_lab.providers.fargate.removal import remove
from daskenv_lab.providers.fargate.resource import (
    EXECUTION_ROLE,
    LOG_GROUP,
    NAME,
    RACE,
    SHARED,
    TASK_ROLE,
    ForeignResource,
    Given,
    Part,
    Resource,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daskenv_lab.providers.contract import Progress

__all__ = ["Shared", "ensure", "find", "plan", "remove"]

_SCHEMA = 1
_ARGUMENTS = {
    (NAME, "ECS cluster"): "cluster_arn",
    (EXECUTION_ROLE, "role"): "execution_role_arn",
    (TASK_ROLE, "role"): "task_role_arn",
    (LOG_GROUP, "log group"): "cloudwatch_logs_group",
    (NAME, "security group"): "security_groups",
}
"""By which argument a user names their own in place of a part of ours."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the tasks of every cluster are started with.

    Examples
    --------
    >>> shared = find(Aws(region="eu-west-1"), {})  # doctest: +SKIP
    >>> shared.cluster_arn  # doctest: +SKIP
    'arn:aws:ecs:eu-west-1:123456789012:cluster/daskenv'
    """

    cluster_arn: str
    execution_role_arn: str
    task_role_arn: str
    log_group: str
    security_groups: tuple[str, ...]
    subnets: tuple[str, ...]
    vpc: str | None
    """None when the user gave subnets and groups, and no VPC."""
    own_group: str | None
    """The security group that is ours to open and close; None for groups that the user gave."""

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain values, for a cache."""
        return {"schema": _SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` gave.

        Raises
        ------
        StateError
            Another version wrote it, or it is damaged.
        """
        own = dict(values)
        try:
            if own.pop("schema", None) != _SCHEMA:
                raise ValueError("it has another schema")
            own["security_groups"] = tuple(own["security_groups"])
            own["subnets"] = tuple(own["subnets"])
            return cls(**own)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"what was remembered of the shared AWS resources cannot be used ({error}); "
                "look them up again"
            ) from error


def plan(aws: Aws, given: Mapping[str, Any]) -> tuple[Resource, ...]:
    """Look closely at each part; this only reads.

    Raises
    ------
    AuthenticationFailed, ProviderUnreachable, AwsRefused, WaitTimeout
    """
    own = Given.of(given)
    return tuple(look_at_all(aws, own, closely=True).values())


def find(aws: Aws, given: Mapping[str, Any]) -> Shared | None:
    """Find the shared set, or give None if a part is missing, damaged or not ours.

    Nothing that is given is looked up. The rest takes at most five calls, all at the same time:
    ecs:DescribeClusters, iam:GetRole for each role, logs:DescribeLogGroups and
    ec2:DescribeSecurityGroups, which has the VPC and, in a tag, the subnets. One call more is
    needed if groups of ours are in several VPCs and none is given, or if subnets or groups are
    given without the other.

    Parameters
    ----------
    aws : Aws
        The account and region.
    given : mapping
        Arguments of the cluster: ``cluster_arn``, ``execution_role_arn``, ``task_role_arn``,
        ``cloudwatch_logs_group``, ``security_groups``, ``subnets`` and ``vpc`` count, others do
        not.

    Raises
    ------
    AuthenticationFailed, ProviderUnreachable, AwsRefused, WaitTimeout
    """
    own = Given.of(given)
    seen = look_at_all(aws, own, closely=False)
    return _shared(own, seen) if all(r.whole for r in seen.values()) else None


def ensure(
    aws: Aws,
    given: Mapping[str, Any],
    *,
    tags: Mapping[str, str] | None = None,
    progress: Progress,
) -> Shared:
    """Make what is missing and mend what is damaged; several may do so at once.

    Parameters
    ----------
    aws, given
        As for `find`.
    tags : mapping of str to str, optional
        The user's own, for what is made new.
    progress : callable
        Told what is made and waited for.

    Raises
    ------
    ForeignResource
        Something has one of our names and not our tags; nothing was made then.
    WaitTimeout
        It was not whole within ``daskenv.fargate.bootstrap-timeout``.
    AuthenticationFailed, ProviderUnreachable, AwsRefused
    """
    own = Given.of(given)
    every = {**(tags or {}), **SHARED}
    deadline = Deadline(config.seconds("fargate.bootstrap-timeout"))
    pause = _FIRST_PAUSE
    while True:
        seen = look_at_all(aws, own, closely=True)
        _refuse_foreign(seen)
        todo = {part: r for part, r in seen.items() if not r.whole}
        if not todo:
            break
        if deadline.passed:
            raise WaitTimeout(
                f"the shared AWS resources were not whole within {deadline.seconds:g} s: "
                f"{'; '.join(r.sentence for r in todo.values())}; run `daskenv bootstrap` again"
            )
        for resource in todo.values():
            verb = "Making" if resource.state == "missing" else "Mending"
            progress(f"{verb} the {resource.kind} {resource.name}")
        together({part: _mending(part, aws, resource, every) for part, resource in todo.items()})
        if pause > _FIRST_PAUSE:
            deadline.pause(pause)
        pause = min(_LONGEST_PAUSE, pause * 2)
    _wait_for_roles(aws, seen, progress)
    return _shared(own, seen)


def _shared(given: Given, seen: Mapping[Part, Resource]) -> Shared:
    by_part = list(seen.values())
    cluster, execution, task, logs, network = by_part
    return Shared(
        cluster_arn=str(cluster.identifier),
        execution_role_arn=str(execution.identifier),
        task_role_arn=str(task.identifier),
        log_group=logs.name,
        security_groups=given.security_groups or (str(network.identifier),),
        subnets=network.subnets,
        vpc=network.vpc,
        own_group=None if given.security_groups else network.identifier,
    )


def _refuse_foreign(seen: Mapping[Part, Resource]) -> None:
    foreign = [r for r in seen.values() if r.state == "foreign"]
    if foreign:
        raise ForeignResource(
            f"{'; '.join(f'the {r.sentence}' for r in foreign)}: it is not ours to use or change, "
            f"and nothing was made; remove or rename it, or name your own with "
            f"{' and '.join(_ARGUMENTS[r.name, r.kind] for r in foreign)}"
        )


def _mending(part: Part, aws: Aws, seen: Resource, tags: Mapping[str, str]) -> Callable[[], None]:
    def mend() -> None:
        try:
            part.mend(aws, seen, tags)
        except AwsRefused as refused:
            # Another process made it, or removed it; the next look tells.
            if refused.code not in RACE:
                raise

    return mend


def _wait_for_roles(aws: Aws, seen: Mapping[Part, Resource], progress: Progress) -> None:
    """Wait until a role is old enough for ECS to know it, whoever made it."""
    if aws.rehearsal:
        return
    ages = [(datetime.now(UTC) - r.made_at).total_seconds() for r in seen.values() if r.made_at]
    delay = config.seconds("fargate.role-delay")
    # A clock that goes wrong must not make this long.
    left = min(delay, delay - min(ages, default=delay))
    if left > 0:
        progress("Waiting for AWS to make the new roles known")
        time.sleep(left)
