"""What AWS refuses of task definitions and of RunTask, before anything is placed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from daskenv_lab.rehearsal.instances import gpus_of
from daskenv_lab.rehearsal.refusal import Refused
from daskenv_lab.rehearsal.sizes import units
from daskenv_lab.sizes import memories

if TYPE_CHECKING:
    from daskenv_lab.rehearsal.cloud import Cloud

_OVERRIDES = 8192
_STARTED_BY = re.compile(r"[A-Za-z0-9_/-]{0,128}")
_ROLE = re.compile(r"arn:aws[^:]*:iam::\d{12}:role/.+")
_TAGS = 50


def check_definition(request: dict[str, Any]) -> None:
    """Check what RegisterTaskDefinition is given.

    Raises
    ------
    Refused
    """
    for key in ("taskRoleArn", "executionRoleArn"):
        if request.get(key) and not _ROLE.fullmatch(str(request[key])):
            raise Refused("ClientException", "Role is not valid")
    containers = request.get("containerDefinitions") or []
    fargate = "FARGATE" in (request.get("requiresCompatibilities") or [])
    for container in containers:
        _check_container(container, request, fargate=fargate)
    check_tags(request.get("tags"))
    if fargate:
        _check_fargate(request, containers)


def _check_container(container: dict[str, Any], request: dict[str, Any], *, fargate: bool) -> None:
    role = request.get("executionRoleArn")
    if container.get("secrets") and not role:
        raise Refused(
            "ClientException",
            "When you are specifying container secrets, you must also specify a value for "
            "'executionRoleArn'.",
        )
    settings = container.get("logConfiguration") or {}
    if settings.get("logDriver") == "awslogs":
        options = settings.get("options") or {}
        needed = ["awslogs-group", "awslogs-region"]
        for name in [*needed, "awslogs-stream-prefix"] if fargate else needed:
            if not options.get(name):
                raise Refused("ClientException", f"Log driver awslogs requires options: {name}")
        if fargate and not role:
            raise Refused(
                "ClientException",
                "Fargate requires task definition to have execution role ARN to support log "
                "driver awslogs.",
            )
    if fargate and gpus_of(container):
        raise Refused(
            "ClientException",
            "Tasks using the Fargate launch type do not support GPU resource requirements.",
        )


def _check_fargate(request: dict[str, Any], containers: list[dict[str, Any]]) -> None:
    if request.get("networkMode") != "awsvpc":
        raise Refused("ClientException", "Fargate only supports network mode 'awsvpc'.")
    given_cpu, given_memory = request.get("cpu"), request.get("memory")
    if not given_cpu or not given_memory:
        raise Refused(
            "ClientException",
            "Fargate requires that 'cpu' and 'memory' be defined at the task level.",
        )
    cpu, memory = units(str(given_cpu), "VCPU"), units(str(given_memory), "GB")
    if memory not in memories(cpu):
        raise Refused(
            "ClientException",
            f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. See "
            "the Amazon ECS documentation for the valid values.",
        )
    asked = sum(int(c.get("cpu") or 0) for c in containers)
    if asked > cpu:
        raise Refused(
            "ClientException",
            f"Invalid 'cpu' setting for task because the sum of containers' cpu ({asked}) is "
            f"greater than the task's ({cpu}).",
        )
    for container in containers:
        if int(container.get("memory") or 0) > memory:
            raise Refused(
                "ClientException",
                f"Invalid setting for container '{container.get('name')}'. The memory of a "
                "container cannot be greater than that of the task.",
            )


def check_request(request: dict[str, Any]) -> None:
    """Check what RunTask is given.

    Raises
    ------
    Refused
    """
    count = request.get("count", 1)
    if not 1 <= count <= 10:
        raise Refused("InvalidParameterException", "Count must be between 1 and 10.")
    overrides = request.get("overrides") or {}
    if len(json.dumps(overrides, separators=(",", ":"))) > _OVERRIDES:
        raise Refused(
            "InvalidParameterException",
            f"Container Overrides length must be at most {_OVERRIDES}",
        )
    if not _STARTED_BY.fullmatch(request.get("startedBy") or ""):
        raise Refused(
            "InvalidParameterException",
            "startedBy may have up to 128 letters (uppercase and lowercase), numbers, hyphens, "
            "forward slashes and underscores.",
        )
    if request.get("launchType") and request.get("capacityProviderStrategy"):
        raise Refused(
            "InvalidParameterException",
            "Specifying both a launch type and capacity provider strategy is not supported. "
            "Remove one and try again.",
        )
    check_tags(request.get("tags"))


def check_tags(tags: list[dict[str, str]] | None) -> None:
    """Check the number and the lengths of tags.

    Raises
    ------
    Refused
    """
    if len(tags or []) > _TAGS:
        raise Refused("InvalidParameterException", f"Tags can not have more than {_TAGS} elements.")
    for tag in tags or []:
        key, value = str(tag.get("key", "")), str(tag.get("value", ""))
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise Refused(
                "InvalidParameterException",
                "A tag's key must have 1 to 128 characters and its value up to 256.",
            )
        if key.lower().startswith("aws:"):
            raise Refused(
                "InvalidParameterException",
                "Tag keys that start with 'aws:' are reserved for AWS use.",
            )
        if not re.fullmatch(r"[\w\s+\-=.:/@]*", key + value):
            raise Refused(
                "InvalidParameterException",
                "Some tags contain invalid characters. Valid characters: UTF-8 letters, spaces, "
                "numbers and _ . / = + - : @.",
            )


def check_roles(cloud: Cloud, arns: list[str | None]) -> None:
    """Check that roles exist and that ECS tasks may have them; call it under the lock.

    Raises
    ------
    Refused
    """
    for arn in filter(None, arns):
        role = next((r for r in cloud.iam.roles.values() if r.arn == arn), None)
        if role is None or "ecs-tasks.amazonaws.com" not in str(role.assume_role_policy_document):
            raise Refused(
                "ClientException",
                f"ECS was unable to assume the role '{arn}' that was provided for this task. "
                "Please verify that the role being passed has the proper trust relationship and "
                "permissions and that your IAM user has permissions to pass this role.",
            )
