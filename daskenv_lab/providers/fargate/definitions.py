"""Task definitions: written from a cluster's settings, and found again by their content."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from daskenv_lab.providers.fargate.aws import Aws, AwsRefused
from daskenv_lab.providers.fargate.fleet import as_list_of_variables
from daskenv_lab.providers.fargate.tags import as_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FAMILY = "daskenv"
_OPEN_FILES = 65_535  # as dask-cloudprovider has it; each connection of the scheduler is a file


def scheduler_command(
    *, port: int, dashboard_port: int, idle_timeout: float, tls: bool, extra: Sequence[str]
) -> list[str]:
    """Write a scheduler's command line, which distributed has understood since 2021.

    The script ``dask-scheduler`` is not in new images, and ``dask scheduler`` not in old ones.
    """
    own = ["python", "-m", "distributed.cli.dask_scheduler"]
    own += _unless_given(extra, "--port", str(port))
    own += _unless_given(extra, "--dashboard-address", f":{dashboard_port}")
    own += _unless_given(extra, "--idle-timeout", f"{idle_timeout:g} seconds")
    own += _unless_given(extra, "--protocol", "tls") if tls else []
    return [*own, *extra]


def worker_command(
    address: str,
    *,
    nthreads: int,
    memory: int,
    death_timeout: float,
    gpu: bool,
    tls: bool,
    extra: Sequence[str],
) -> list[str]:
    """Write a worker's command line; `memory` in MiB is what the task has, at any size."""
    program = ["dask", "cuda", "worker"] if gpu else ["python", "-m", "distributed.cli.dask_worker"]
    own = [*program, address]
    own += _unless_given(extra, "--nthreads", str(nthreads))
    own += _unless_given(extra, "--memory-limit", f"{memory}MiB")
    own += _unless_given(extra, "--death-timeout", f"{death_timeout:g}")
    own += _unless_given(extra, "--protocol", "tls") if tls else []
    return [*own, *extra]


def _unless_given(extra: Sequence[str], option: str, value: str) -> list[str]:
    given = any(word == option or word.startswith(f"{option}=") for word in extra)
    return [] if given else [option, value]


def definition(
    role: str,
    *,
    image: str,
    cpu: int,
    memory: int,
    gpu: int | None,
    architecture: str,
    fargate: bool,
    execution_role_arn: str,
    task_role_arn: str,
    log_group: str,
    region: str,
    env_vars: Mapping[str, str],
    secrets: Mapping[str, str],
    mount_points: Sequence[Mapping[str, Any]],
    volumes: Sequence[Mapping[str, Any]],
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """Write what RegisterTaskDefinition is told, under a family named after the content.

    Parameters
    ----------
    role : str
        ``scheduler`` or ``worker``.
    cpu : int
        In 1/1024 of a virtual CPU.
    memory : int
        MiB.
    secrets : mapping of str to str
        Process variables, and where each is read from when a container starts.
    """
    container: dict[str, Any] = {
        "name": f"dask-{role}",
        "image": image,
        "cpu": cpu,
        "memory": memory,
        "memoryReservation": memory,
        "essential": True,
        "environment": as_list_of_variables(env_vars),
        "secrets": [{"name": name, "valueFrom": place} for name, place in secrets.items()],
        "ulimits": [{"name": "nofile", "softLimit": _OPEN_FILES, "hardLimit": _OPEN_FILES}],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-region": region,
                "awslogs-group": log_group,
                "awslogs-stream-prefix": FAMILY,
            },
        },
        "mountPoints": [dict(m) for m in mount_points],
    }
    if gpu:
        container["resourceRequirements"] = [{"type": "GPU", "value": str(gpu)}]
    told: dict[str, Any] = {
        "executionRoleArn": execution_role_arn,
        "taskRoleArn": task_role_arn,
        "networkMode": "awsvpc",
        "containerDefinitions": [container],
        "volumes": [dict(v) for v in volumes],
        "requiresCompatibilities": ["FARGATE"] if fargate else ["EC2"],
        "cpu": str(cpu),
        "memory": str(memory),
        "tags": as_list({**tags, "createdBy": "daskenv_lab", "daskenv:shared": "1"}),
    }
    if fargate:
        told["runtimePlatform"] = {
            "cpuArchitecture": architecture,
            "operatingSystemFamily": "LINUX",
        }
    content = json.dumps(told, sort_keys=True).encode()
    return {"family": f"{FAMILY}-{role}-{hashlib.sha256(content).hexdigest()[:16]}", **told}


def ensure(aws: Aws, wanted: Mapping[str, Any]) -> str:
    """Find the task definition with this content, or register it; gives its ARN."""
    try:
        found = aws.call("ecs", "describe_task_definition", taskDefinition=wanted["family"])
        if found["taskDefinition"].get("status", "ACTIVE") == "ACTIVE":
            return str(found["taskDefinition"]["taskDefinitionArn"])
    except AwsRefused as refused:
        if refused.code != "ClientException":  # AWS's word for a family that does not exist
            raise
    made = aws.call("ecs", "register_task_definition", **wanted)
    return str(made["taskDefinition"]["taskDefinitionArn"])
