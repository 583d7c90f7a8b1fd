"""The parts of the shared set, always in the same order, and looking at all of them at once."""

from __future__ import annotations

from concurrent.futures import TimeoutError as OutOfTime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from daskenv_lab import config
from daskenv_lab.bounded import Deadline, in_background
from daskenv_lab.errors import WaitTimeout
from daskenv_lab.providers.fargate.network import Network
from daskenv_lab.providers.fargate.places import EcsCluster, LogGroup
from daskenv_lab.providers.fargate.resource import (
    EXECUTION_ROLE,
    TASK_ROLE,
    Given,
    Part,
    Resource,
)
from daskenv_lab.providers.fargate.roles import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daskenv_lab.providers.fargate.aws import Aws

T = TypeVar("T")


def parts_of(given: Given) -> dict[Part, Resource | None]:
    """List the parts, each with what is known of it without a look."""

    def told(kind: str, value: str | None) -> Resource | None:
        if value is None:
            return None
        return Resource(kind=kind, name=value, identifier=value, state="given")

    return {
        EcsCluster(): told("ECS cluster", given.cluster_arn),
        Role(EXECUTION_ROLE): told("role", given.execution_role_arn),
        Role(TASK_ROLE): told("role", given.task_role_arn),
        LogGroup(): told("log group", given.cloudwatch_logs_group),
        Network(given): None,
    }


def look_at_all(aws: Aws, given: Given, *, closely: bool) -> dict[Part, Resource]:
    """Look at each part at the same time, save those that are given."""
    parts = parts_of(given)
    looks = {
        part: partial(part.look, aws, closely=closely)
        for part, known in parts.items()
        if known is None
    }
    seen = together(looks)
    return {part: known or seen[part] for part, known in parts.items()}


def together(calls: Mapping[Part, Callable[[], T]]) -> dict[Part, T]:
    """Make calls at the same time, and give their answers, or raise the first error.

    Raises
    ------
    WaitTimeout
        They took longer than ``daskenv.fargate.bootstrap-timeout``.
    """
    deadline = Deadline(config.seconds("fargate.bootstrap-timeout"))
    running = {part: in_background(call) for part, call in calls.items()}
    try:
        return {part: answer.result(deadline.left) for part, answer in running.items()}
    except OutOfTime as error:
        raise WaitTimeout(
            f"AWS took more than {deadline.seconds:g} s for the shared resources; look at the "
            "network, or try again"
        ) from error
