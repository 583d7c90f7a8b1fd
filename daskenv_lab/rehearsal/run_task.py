"""RunTask: where tasks are placed, and what they are made of."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from daskenv_lab.rehearsal.instances import needs_of, room_for, take
from daskenv_lab.rehearsal.limits import check_request, check_roles
from daskenv_lab.rehearsal.place import ACCOUNT
from daskenv_lab.rehearsal.refusal import Refused
from daskenv_lab.rehearsal.sizes import units
from daskenv_lab.rehearsal.task import Container, Task

if TYPE_CHECKING:
    from daskenv_lab.rehearsal.cloud import Cloud

_FARGATE = ("FARGATE", "FARGATE_SPOT")
_LATEST = "1.4.0"


def run_task(cloud: Cloud, request: dict[str, Any]) -> dict[str, Any]:
    """Place tasks, and begin their lives; call it under the lock.

    Raises
    ------
    Refused
        AWS would refuse the request.
    """
    check_request(request)
    cluster = active_cluster(cloud, request)
    definition = _definition(cloud, request)
    roles = _roles(request, definition)
    check_roles(cloud, list(roles.values()))
    count = request.get("count", 1)
    providers = _providers(request, cluster, count)
    network = _network(cloud, request, definition, fargate=providers[0] in (*_FARGATE, None))
    tasks: list[Task] = []
    failures: list[dict[str, str]] = []
    for provider in providers:
        launch = _launch_type(request, provider)
        _check_compatible(definition, launch)
        reason = cloud.orders.on_placement(provider or launch)
        instance = None
        if reason is None and launch == "EC2":
            instance, reason = room_for(cloud, cluster.name, needs_of(definition))
        if reason:
            failures.append({"arn": cluster.arn, "reason": reason})
            continue
        task = _made(cloud, request, cluster, definition, launch, provider)
        task.execution_role = roles["executionRoleArn"]
        task.subnet, task.groups, task.public = network
        task.instance = instance
        task.needs = needs_of(definition)
        take(task)
        cloud.add(task)
        tasks.append(task)
    return {"tasks": [task.describe(tags=True) for task in tasks], "failures": failures}


def active_cluster(cloud: Cloud, request: dict[str, Any]) -> Any:
    """Find the ECS cluster that a request names.

    Raises
    ------
    Refused
        There is none, or it was deleted.
    """
    name = str(request.get("cluster") or "default").split("/")[-1]
    cluster = cloud.ecs.clusters.get(name)
    if cluster is None:
        raise Refused("ClusterNotFoundException", "Cluster not found.")
    if cluster.status != "ACTIVE":
        raise Refused("ClusterNotFoundException", "The referenced cluster was inactive.")
    return cluster


def _definition(cloud: Cloud, request: dict[str, Any]) -> Any:
    name = str(request.get("taskDefinition") or "").split("/")[-1]
    family, _, revision = name.partition(":")
    revisions = cloud.ecs.task_definitions.get(family, {})
    if revision:
        found = revisions.get(int(revision)) if revision.isdigit() else None
    else:
        active = [d for d in revisions.values() if d.status == "ACTIVE"]
        found = max(active, key=lambda d: d.revision, default=None)
    if found is None:
        raise Refused("ClientException", "TaskDefinition not found.")
    if found.status != "ACTIVE":
        raise Refused("ClientException", "TaskDefinition is inactive")
    return found


def _roles(request: dict[str, Any], definition: Any) -> dict[str, str | None]:
    overrides = request.get("overrides") or {}
    own = {
        "taskRoleArn": getattr(definition, "task_role_arn", None),
        "executionRoleArn": getattr(definition, "execution_role_arn", None),
    }
    return {key: overrides.get(key) or value for key, value in own.items()}


def _providers(request: dict[str, Any], cluster: Any, count: int) -> list[str | None]:
    """Give each task its capacity provider, or None for a launch type."""
    strategy = request.get("capacityProviderStrategy")
    if not strategy and not request.get("launchType"):
        strategy = cluster.default_capacity_provider_strategy
    if not strategy:
        return [None] * count
    for entry in strategy:
        if entry["capacityProvider"] not in (cluster.capacity_providers or []):
            raise Refused(
                "InvalidParameterException",
                "The specified capacity provider strategy cannot contain a capacity provider that "
                "is not associated with the cluster. Associate the capacity provider with the "
                "cluster and try again.",
            )
    based: list[str | None] = []
    for entry in strategy:
        based += [entry["capacityProvider"]] * int(entry.get("base") or 0)
    weights = {e["capacityProvider"]: int(e.get("weight") or 0) for e in strategy}
    if not any(weights.values()):
        # One provider without a weight is a common way to name it.
        weights = {e["capacityProvider"]: 1 for e in strategy}
    given = dict.fromkeys(weights, 0)
    while len(based) < count:
        # Whoever is furthest behind its share is next.
        due = min(
            (name for name, weight in weights.items() if weight),
            key=lambda name: given[name] / weights[name],
        )
        given[due] += 1
        based.append(due)
    return based[:count]


def _launch_type(request: dict[str, Any], provider: str | None) -> str:
    if provider is not None:
        return "FARGATE" if provider in _FARGATE else "EC2"
    return str(request.get("launchType") or "EC2")


def _check_compatible(definition: Any, launch: str) -> None:
    if launch not in {"EC2", "FARGATE", "EXTERNAL"}:
        raise Refused(
            "InvalidParameterException", "launch type should be one of [EC2,FARGATE,EXTERNAL]"
        )
    if launch == "FARGATE" and "FARGATE" not in definition.compatibilities:
        raise Refused(
            "InvalidParameterException", "Task definition does not support launch_type FARGATE."
        )


def _network(
    cloud: Cloud, request: dict[str, Any], definition: Any, *, fargate: bool
) -> tuple[str | None, list[str], bool]:
    """Give the subnet, the security groups, and whether there is a public address."""
    settings = (request.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
    if definition.network_mode != "awsvpc":
        if settings:
            raise Refused(
                "InvalidParameterException",
                "Network Configuration is not valid for the given networkMode of this task "
                "definition.",
            )
        return None, [], False
    subnets = settings.get("subnets") or []
    if not subnets:
        raise Refused(
            "InvalidParameterException",
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        )
    vpcs = {_vpc_of_subnet(cloud, name) for name in subnets}
    groups = list(settings.get("securityGroups") or [])
    for name in groups:
        group = cloud.ec2.get_security_group_from_id(name)
        if group is None:
            raise Refused(
                "InvalidParameterException",
                f"Error retrieving security group information for [{name}]: The security group "
                f"'{name}' does not exist (ErrorCode: InvalidGroup.NotFound)",
            )
        vpcs.add(group.vpc_id)
    if len(vpcs) > 1:
        raise Refused(
            "InvalidParameterException",
            "The provided subnets and security groups are not all in the same VPC.",
        )
    if not groups:
        default = cloud.ec2.get_default_security_group(vpcs.pop())
        groups = [default.id] if default is not None else []
    public = settings.get("assignPublicIp") == "ENABLED"
    if public and not fargate:
        raise Refused(
            "InvalidParameterException",
            "Assign public IP is not supported for this launch type.",
        )
    # ECS spreads tasks over the subnets.
    return subnets[len(cloud.tasks) % len(subnets)], groups, public


def _vpc_of_subnet(cloud: Cloud, name: str) -> str:
    for by_id in cloud.ec2.subnets.values():
        if name in by_id:
            return str(by_id[name].vpc_id)
    raise Refused(
        "InvalidParameterException",
        f"Error retrieving subnet information for [{name}]: The subnet ID '{name}' does not exist "
        "(ErrorCode: InvalidSubnetID.NotFound)",
    )


def _made(
    cloud: Cloud,
    request: dict[str, Any],
    cluster: Any,
    definition: Any,
    launch: str,
    provider: str | None,
) -> Task:
    number = uuid.uuid4().hex
    place = f"arn:aws:ecs:{cloud.region}:{ACCOUNT}"
    overrides = request.get("overrides") or {}
    cpu, memory = (overrides.get(k) or getattr(definition, k) for k in ("cpu", "memory"))
    return Task(
        id=number,
        task_arn=f"{place}:task/{cluster.name}/{number}",
        cluster_arn=cluster.arn,
        cluster_name=cluster.name,
        family=definition.family,
        definition_arn=definition.arn,
        definition=definition,
        containers=_containers(place, cluster, number, definition, overrides),
        overrides=overrides,
        launch_type=launch,
        capacity_provider=provider,
        platform_version=_version(request) if launch == "FARGATE" else None,
        group=request.get("group") or f"family:{definition.family}",
        started_by=request.get("startedBy") or "",
        tags=_tags(request, cluster, definition),
        cpu=str(units(str(cpu), "VCPU")) if cpu else None,
        memory=str(units(str(memory), "GB")) if memory else None,
        execution_role=None,
        execute_command=bool(request.get("enableExecuteCommand")),
    )


def _containers(
    place: str, cluster: Any, number: str, definition: Any, overrides: dict[str, Any]
) -> list[Container]:
    given = {c.get("name"): c for c in overrides.get("containerOverrides", [])}
    names = [c["name"] for c in definition.container_definitions]
    for name in given:
        if name not in names:
            raise Refused(
                "InvalidParameterException",
                f"Override for container named {name} is not a container in the TaskDefinition.",
            )
    return [
        Container(
            name=c["name"],
            definition=c,
            override=given.get(c["name"], {}),
            arn=f"{place}:container/{cluster.name}/{number}/{uuid.uuid4()}",
        )
        for c in definition.container_definitions
    ]


def _version(request: dict[str, Any]) -> str:
    given = request.get("platformVersion")
    return _LATEST if given in (None, "LATEST") else str(given)


def _tags(request: dict[str, Any], cluster: Any, definition: Any) -> list[dict[str, str]]:
    tags: dict[str, str] = {}
    if request.get("propagateTags") == "TASK_DEFINITION":
        tags.update({t["key"]: t["value"] for t in definition.tags})
    tags.update({t["key"]: t.get("value", "") for t in request.get("tags") or []})
    if request.get("enableECSManagedTags"):
        tags["aws:ecs:clusterName"] = cluster.name
    return [{"key": key, "value": value} for key, value in tags.items()]
