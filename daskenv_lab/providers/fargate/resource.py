"""What our shared AWS resources are called, how they are tagged, and how one of them is described.

The shared set is one ECS cluster, two roles, one log group and one security group for each
account and region. It is made once; a Dask cluster is then only tasks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from daskenv_lab.errors import EnvironmentValueError, ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from daskenv_lab.providers.fargate.aws import Aws

NAME = "daskenv"
"""The ECS cluster, and the security group of each VPC."""
EXECUTION_ROLE = "daskenv-execution"
"""What ECS itself may do to start a task: pull images, write logs, read our secrets."""
TASK_ROLE = "daskenv-task"
"""What the code in a task may do: nothing, unless somebody adds to it."""
LOG_GROUP = "/daskenv"
FAMILY_PREFIX = "daskenv-"
"""How the families of our task definitions begin."""
SECRET_PREFIX = "daskenv/"  # noqa: S105 - how the names of secrets begin, and no secret
"""How the names of our secrets begin."""

OURS = {"createdBy": "daskenv_lab"}
"""The tag on everything that we make."""
SHARED = {**OURS, "daskenv:shared": "1"}
"""The tags on what all clusters share."""

LAYOUT = 1
"""Counts up when what is made changes, so that a set made by an older version is mended."""

State = Literal["exists", "missing", "given", "damaged", "foreign"]
"""Foreign: something has our name and not our tags; it is never touched."""


class ForeignResource(ProviderError):
    """Something in the account has the name of one of our resources, and is not ours."""


class SharedSetInUse(ProviderError):
    """The shared set cannot be removed while something runs on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One part of the shared set as it was seen.

    Examples
    --------
    >>> Resource(kind="log group", name="/daskenv", state="missing").sentence
    'log group /daskenv is missing'
    """

    kind: str
    name: str
    identifier: str | None = None
    """Its ARN or id."""
    state: State
    note: str = ""
    """What is wrong with it, or what will be done."""
    made_at: datetime | None = None
    vpc: str | None = None
    """Of a security group, the VPC that it is in."""
    subnets: tuple[str, ...] = ()
    """Of a security group, the subnets that tasks go to."""

    @property
    def whole(self) -> bool:
        """Whether it can be used as it is."""
        return self.state in ("exists", "given")

    @property
    def sentence(self) -> str:
        """Say how it is."""
        words = {"exists": "exists", "given": "was given"}.get(self.state, f"is {self.state}")
        return f"{self.kind} {self.name} {words}" + (f" ({self.note})" if self.note else "")


class Part(Protocol):
    """A part of the shared set that can be looked at, mended and removed again and again."""

    def look(self, aws: Aws, *, closely: bool) -> Resource:
        """See how it is, in one call; `closely` may take more and notices more damage."""
        ...

    def mend(self, aws: Aws, seen: Resource, tags: Mapping[str, str]) -> None:
        """Make it, or what is missing of it; another process may be doing the same."""
        ...

    def remove(self, aws: Aws, seen: Resource) -> bool:
        """Remove it, or give False when it must stay; `AwsRefused` with the codes in BUSY."""
        ...


BUSY = {
    "ClusterContainsTasksException",
    "ConcurrentModification",
    "ConcurrentModificationException",
    "DeleteConflict",
    "DependencyViolation",
    "OperationAbortedException",
    "UpdateInProgressException",
}
"""What AWS says when the same call will work in a moment."""

RACE = {
    *BUSY,
    "EntityAlreadyExists",
    "InvalidGroup.Duplicate",
    "InvalidGroup.NotFound",
    "InvalidPermission.Duplicate",
    "NoSuchEntity",
    "ResourceAlreadyExistsException",
    "ResourceNotFoundException",
}
"""What AWS says when another process was faster, or when it has not yet heard of its own news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user has of their own in place of a part of the shared set.

    The words are those of dask-cloudprovider's ``FargateCluster``.
    """

    cluster_arn: str | None = None
    execution_role_arn: str | None = None
    task_role_arn: str | None = None
    cloudwatch_logs_group: str | None = None
    security_groups: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    vpc: str | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Take what concerns us out of a cluster's arguments.

        Raises
        ------
        EnvironmentValueError
            A value is no text, or no list of texts.

        Examples
        --------
        >>> Given.of({"vpc": "vpc-1", "n_workers": 2}).vpc
        'vpc-1'
        """
        found: dict[str, Any] = {}
        for key in ("security_groups", "subnets"):
            value = arguments.get(key) or ()
            several = (value,) if isinstance(value, str) else tuple(value)
            if not all(isinstance(v, str) and v for v in several):
                raise EnvironmentValueError(f"{key}={value!r} must be a list of ids")
            found[key] = several
        for key in (
            "cluster_arn",
            "execution_role_arn",
            "task_role_arn",
            "cloudwatch_logs_group",
            "vpc",
        ):
            value = arguments.get(key) or None
            if value is not None and not isinstance(value, str):
                raise EnvironmentValueError(f"{key}={value!r} must be a text")
            found[key] = value
        return cls(**found)


def is_shared(tags: Mapping[str, str]) -> bool:
    """Tell whether tags are those of the shared set."""
    return all(tags.get(k) == v for k, v in SHARED.items())


def partition(region: str) -> str:
    """Give the word after ``arn:`` for a region.

    Examples
    --------
    >>> partition("cn-north-1"), partition("eu-west-1")
    ('aws-cn', 'aws')
    """
    starts = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso-": "aws-iso",
              "us-isob-": "aws-iso-b", "us-isof-": "aws-iso-f", "eu-isoe-": "aws-iso-e",
              "eusc-": "aws-eusc"}  # fmt: skip
    return next((word for start, word in starts.items() if re.match(start, region)), "aws")
