"""Taking the shared set away again, and the task definitions that were made with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskenv_lab import config
from daskenv_lab.bounded import Deadline
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused
from daskenv_lab.providers.fargate.network import Network, every_group
from daskenv_lab.providers.fargate.parts import parts_of
from daskenv_lab.providers.fargate.resource import (
    BUSY,
    FAMILY_PREFIX,
    NAME,
    OURS,
    Given,
    Part,
    Resource,
    SharedSetInUse,
)
from daskenv_lab.providers.fargate.tags import Identity, from_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskenv_lab.providers.contract import Progress

_MOST_NAMED = 10
_MOST_DESCRIBED = 100  # in one call of DescribeTasks
_MOST_DELETED = 10  # in one call of DeleteTaskDefinitions
_HAS_TASKS = "ClusterContainsTasksException"
_GONE = {
    "ClusterNotFoundException",
    "InvalidGroup.NotFound",
    "NoSuchEntity",
    "ResourceNotFoundException",
}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 3.0


def remove(aws: Aws, *, progress: Progress) -> list[str]:
    """Remove the whole set, and our task definitions; nothing without our tags is touched.

    The ECS cluster goes first: AWS refuses that while a task runs, and no task can be started
    afterwards. A role that another region still uses stays.

    Returns
    -------
    list of str
        What was removed.

    Raises
    ------
    SharedSetInUse
        Tasks run, or are stopping for longer than ``daskenv.fargate.bootstrap-timeout``.
    AuthenticationFailed, ProviderUnreachable, AwsRefused, WaitTimeout
    """
    deadline = Deadline(config.seconds("fargate.bootstrap-timeout"))
    cluster, *others = parts_of(Given())
    removed: list[str] = []
    seen = cluster.look(aws, closely=True)
    if seen.state in ("exists", "damaged"):
        _refuse_running(aws)
    removed += _remove_part(aws, cluster, seen, deadline, progress)
    removed += _remove_definitions(aws, progress)
    groups: list[tuple[Part, Resource]] = [(Network(Given(vpc=r.vpc)), r) for r in every_group(aws)]
    rest = [(p, p.look(aws, closely=True)) for p in others if not isinstance(p, Network)]
    for part, there in [*groups, *rest]:
        removed += _remove_part(aws, part, there, deadline, progress)
    return removed


def _remove_part(
    aws: Aws, part: Part, seen: Resource, deadline: Deadline, progress: Progress
) -> list[str]:
    if seen.state == "missing":
        return []
    if seen.state == "foreign":
        progress(f"Leaving the {seen.kind} {seen.name} alone: it is not ours")
        return []
    pause = _FIRST_PAUSE
    while True:
        progress(f"Removing the {seen.kind} {seen.name}")
        try:
            gone = part.remove(aws, seen)
        except AwsRefused as refused:
            if refused.code in _GONE:
                return []
            if refused.code not in BUSY:
                raise
            if refused.code == _HAS_TASKS:
                _refuse_running(aws)
            if deadline.passed:
                raise SharedSetInUse(
                    f"the {seen.kind} {seen.name} was still in use after {deadline.seconds:g} s "
                    f"({refused.reason}); run `daskenv bootstrap --remove` again in a minute"
                ) from refused
        else:
            if not gone:
                progress(f"Leaving the {seen.kind} {seen.name}: another region uses it")
            return [f"{seen.kind} {seen.name}"] if gone else []
        deadline.pause(pause)
        pause = min(_LONGEST_PAUSE, pause * 2)


def _refuse_running(aws: Aws) -> None:
    try:
        arns = list(aws.pages("ecs", "list_tasks", "taskArns", cluster=NAME))
    except AwsRefused as refused:
        if refused.code != "ClusterNotFoundException":
            raise
        return
    if not arns:
        return
    told = aws.call(
        "ecs", "describe_tasks", cluster=NAME, tasks=arns[:_MOST_DESCRIBED], include=["TAGS"]
    )
    by_owner: dict[str, list[str]] = {}
    for task in told["tasks"]:
        by_owner.setdefault(_owner(task), []).append(_id(task["taskArn"]))
    words = [
        f"{len(ids)} of {whose}{'' if len(ids) > 1 else f': {ids[0]}'}"
        for whose, ids in by_owner.items()
    ]
    more = f", and more of {len(words) - _MOST_NAMED} others" if len(words) > _MOST_NAMED else ""
    raise SharedSetInUse(
        f"the ECS cluster {NAME} runs {len(arns)} {'task' if len(arns) == 1 else 'tasks'} "
        f"({'; '.join(words[:_MOST_NAMED])}{more}); take the clusters down with `daskenv down`, "
        "or those that nobody holds with `daskenv reap`"
    )


def _id(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]


def _owner(task: Mapping[str, Any]) -> str:
    identity = Identity.from_tags(from_list(task.get("tags") or ()))
    return f"{identity.name!r}, {identity.owner}" if identity else "somebody without our tags"


def _remove_definitions(aws: Aws, progress: Progress) -> list[str]:
    """Remove all task definitions of ours; those that a task still uses go when it ends."""
    families = aws.pages(
        "ecs",
        "list_task_definition_families",
        "families",
        familyPrefix=FAMILY_PREFIX,
        status="ALL",
    )
    removed: list[str] = []
    for family in list(families):
        progress(f"Removing the task definition {family}")
        active, inactive = (_definitions(aws, family, s) for s in ("ACTIVE", "INACTIVE"))
        for arn in active:
            aws.call("ecs", "deregister_task_definition", taskDefinition=arn)
        every = [*active, *inactive]
        for start in range(0, len(every), _MOST_DELETED):
            some = every[start : start + _MOST_DELETED]
            answer = aws.call("ecs", "delete_task_definitions", taskDefinitions=some)
            refused = {f["arn"]: f.get("reason", "") for f in answer.get("failures", ())}
            for arn, reason in refused.items():
                progress(f"AWS keeps the task definition {_id(arn)} ({reason})")
            removed += [f"task definition {_id(arn)}" for arn in some if arn not in refused]
    return removed


def _definitions(aws: Aws, family: str, status: str) -> list[str]:
    listed = aws.pages(
        "ecs",
        "list_task_definitions",
        "taskDefinitionArns",
        familyPrefix=family,
        status=status,
    )
    return [arn for arn in listed if _is_ours(aws, arn)]


def _is_ours(aws: Aws, definition: str) -> bool:
    told = aws.call("ecs", "describe_task_definition", taskDefinition=definition, include=["TAGS"])
    tags = from_list(told.get("tags") or ())
    return all(tags.get(key) == value for key, value in OURS.items())
