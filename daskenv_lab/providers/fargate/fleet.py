"""The tasks of a cluster in ECS: run, watched, stopped; many of them with few calls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import ClusterStartError, ProviderUnreachable, WaitTimeout
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused, NotPermitted
from daskenv_lab.providers.fargate.tags import ROLE, Identity, as_list, from_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from daskenv_lab.bounded import Deadline
    from daskenv_lab.providers.contract import Progress

_MOST_RUN = 10  # https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html
_MOST_DESCRIBED = 100
_STOPPERS = 8
# Reasons for which AWS starts fewer tasks than were asked for, and which pass.
_PASSING = ("RESOURCE:", "Capacity is unavailable", "capacity", "AGENT", "unable to assume")
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.1, 3.0, 1.3
OVER = ("DEPROVISIONING", "STOPPED", "DELETED")
"""The states of a task that has ended, or does so without us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task as ECS tells of it."""

    arn: str
    status: str
    """ECS's ``lastStatus``: ``PROVISIONING``, ``PENDING``, ``RUNNING``, …, ``STOPPED``."""

    desired: str
    private_ip: str | None = None
    interface: str | None = None
    """The network interface's id."""

    tags: Mapping[str, str] = field(default_factory=dict)
    env_vars: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The process variables of its override."""

    reason: str = ""
    """Why it stopped, in ECS's words, with its exit code if it has one."""

    stop_code: str = ""
    """ECS's word for the kind of stop: ``UserInitiated``, ``TaskFailedToStart``, …"""

    exit_code: int | None = None
    created_at: datetime | None = None
    definition: str = ""
    container: str = ""

    @property
    def id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rsplit("/", 1)[-1]

    @property
    def role(self) -> str:
        """``scheduler`` or ``worker``; empty for one that is not ours."""
        return self.tags.get(ROLE, "")

    @property
    def identity(self) -> Identity | None:
        """Which cluster it belongs to; None for one that is not ours."""
        return Identity.from_tags(self.tags)

    @property
    def wanted(self) -> bool:
        """Whether it runs, or is about to, and nobody told it to stop."""
        return self.desired == "RUNNING" and self.status not in OVER

    @property
    def failed(self) -> bool:
        """Whether it stopped without anybody having asked for it, and not as it should."""
        asked = self.stop_code in ("UserInitiated", "")
        return not (self.wanted or asked or self.finished)

    @property
    def finished(self) -> bool:
        """Whether it ended by itself, as it should; Spot makes it end with code 0 as well."""
        return self.stop_code == "EssentialContainerExited" and self.exit_code == 0

    @classmethod
    def from_ecs(cls, told: Mapping[str, Any]) -> Task:
        """Read what DescribeTasks and RunTask give."""
        details = {
            d["name"]: d.get("value")
            for a in told.get("attachments", ())
            if a.get("type") == "ElasticNetworkInterface"
            for d in a.get("details", ())
        }
        containers = told.get("containers") or [{}]
        overrides = told.get("overrides", {}).get("containerOverrides") or [{}]
        return cls(
            arn=told["taskArn"],
            status=told.get("lastStatus", ""),
            desired=told.get("desiredStatus", ""),
            private_ip=details.get("privateIPv4Address"),
            interface=details.get("networkInterfaceId"),
            tags=from_list(told.get("tags", ())),
            env_vars={e["name"]: e["value"] for e in overrides[0].get("environment", ())},
            reason=_reason(told, containers[0]),
            stop_code=told.get("stopCode", ""),
            exit_code=containers[0].get("exitCode"),
            created_at=told.get("createdAt"),
            definition=told.get("taskDefinitionArn", ""),
            container=containers[0].get("name", ""),
        )


def _reason(told: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    parts = [str(told.get("stoppedReason") or ""), str(container.get("reason") or "")]
    if (code := container.get("exitCode")) is not None:
        parts.append(f"exit code {code}")
    return "; ".join(dict.fromkeys(p for p in parts if p))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What RunTask is told for each task of one kind; it can be written down and used again."""

    ecs_cluster: str
    started_by: str
    request: Mapping[str, Any]
    """All other arguments of RunTask but the count."""

    def to_dict(self) -> dict[str, Any]:
        """Write the order down in JSON's types."""
        return {
            "ecs_cluster": self.ecs_cluster,
            "started_by": self.started_by,
            "request": dict(self.request),
        }

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Order:
        """Make the order that `to_dict` wrote down."""
        return cls(**written)


def run(aws: Aws, order: Order, n: int, *, deadline: Deadline, progress: Progress) -> list[Task]:
    """Start `n` tasks, up to ten with each call; waits out a lack of capacity.

    Raises
    ------
    ClusterStartError
        AWS refuses for good, and says why.
    WaitTimeout
        There was no room within the time limit; what was started runs.
    """
    started: list[Task] = []
    pause = _FIRST_PAUSE * 5
    while len(started) < n:
        count = min(n - len(started), _MOST_RUN)
        new, lacking = _run_once(aws, order, count)
        started += new
        if not lacking and (len(started) == n or not deadline.passed):
            pause = _FIRST_PAUSE * 5
            continue
        if lacking and not any(word in lacking for word in _PASSING):
            raise ClusterStartError(
                f"ECS started {len(started)} of {n} tasks and refused the others ({lacking}); "
                "look at the service quotas and the settings with `daskenv doctor fargate`"
            )
        if deadline.passed:
            raise WaitTimeout(
                f"ECS started {len(started)} of {n} tasks within {deadline.seconds:g} s"
                f"{f', and said {lacking!r} to the others' if lacking else ''}; try again later, "
                "or with other subnets or fewer workers"
            )
        progress(f"AWS has no room for {n - len(started)} tasks yet ({lacking}); asking again")
        deadline.pause(pause)
        pause = min(pause * 2, 10.0)
    return started


def _run_once(aws: Aws, order: Order, count: int) -> tuple[list[Task], str]:
    """Ask once; gives what started, and why the others did not."""
    try:
        answer = aws.call(
            "ecs",
            "run_task",
            cluster=order.ecs_cluster,
            startedBy=order.started_by,
            count=count,
            **order.request,
        )
    except NotPermitted:
        raise
    except AwsRefused as refused:
        if any(word in refused.reason for word in _PASSING):
            return [], refused.reason
        raise ClusterStartError(
            f"ECS did not run {count} tasks ({refused.code}: {refused.reason}); look with "
            "`daskenv doctor fargate`"
        ) from refused
    failures = [str(f.get("reason") or f.get("detail") or f) for f in answer.get("failures", ())]
    tasks = [Task.from_ecs(t) for t in answer.get("tasks", ())]
    return tasks, failures[0] if failures else "" if tasks else "no task, and no reason"


def describe(aws: Aws, ecs_cluster: str, arns: Iterable[str]) -> list[Task]:
    """Look at tasks, a hundred with each call; those that ECS forgot are left out."""
    found: list[Task] = []
    for batch in _batches(arns, _MOST_DESCRIBED):
        answer = aws.call(
            "ecs", "describe_tasks", cluster=ecs_cluster, tasks=batch, include=["TAGS"]
        )
        found += [Task.from_ecs(t) for t in answer["tasks"]]
    return found


def of_cluster(aws: Aws, ecs_cluster: str, started_by: str) -> list[Task]:
    """Look at the tasks of one cluster that nobody told to stop."""
    # https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html: startedBy must
    # be the only filter.
    return _listed(aws, ecs_cluster, startedBy=started_by)


def of_everybody(aws: Aws, ecs_cluster: str, *, stopped: bool = False) -> list[Task]:
    """Look at our tasks in one ECS cluster, whosever they are; or at those that stopped lately."""
    status = "STOPPED" if stopped else "RUNNING"
    return [t for t in _listed(aws, ecs_cluster, desiredStatus=status) if t.identity]


def _listed(aws: Aws, ecs_cluster: str, **filters: str) -> list[Task]:
    try:
        arns = list(aws.pages("ecs", "list_tasks", "taskArns", cluster=ecs_cluster, **filters))
    except AwsRefused as refused:
        if refused.code != "ClusterNotFoundException":
            raise
        return []  # No shared set, and so no tasks.
    return describe(aws, ecs_cluster, arns)


def wait(
    aws: Aws,
    ecs_cluster: str,
    arns: Sequence[str],
    done: Callable[[list[Task]], bool],
    *,
    deadline: Deadline,
    longest_pause: float = _LONGEST_PAUSE,
) -> list[Task]:
    """Look at tasks, more and more seldom, until something is true of them.

    Returns
    -------
    list of Task
        As they are then, or as they were last when the time limit ran out.
    """
    pause, last = _FIRST_PAUSE, [_just_run(arn) for arn in arns]
    while True:
        try:
            last = describe(aws, ecs_cluster, arns) or last
        except ProviderUnreachable:
            # botocore has tried long enough for a call, and not for a wait that has time left.
            if deadline.passed:
                raise
        if done(last) or deadline.passed:
            return last
        deadline.pause(pause)
        pause = min(pause * _GROWTH, longest_pause)


def stop(aws: Aws, ecs_cluster: str, arns: Iterable[str], *, reason: str) -> None:
    """Tell tasks to stop, several at a time; no error for those that ECS forgot."""

    def tell(arn: str) -> None:
        try:
            aws.call("ecs", "stop_task", cluster=ecs_cluster, task=arn, reason=reason[:255])
        except AwsRefused as refused:
            if refused.code != "InvalidParameterException" and "not found" not in refused.reason:
                raise

    with ThreadPoolExecutor(_STOPPERS, thread_name_prefix="daskenv-stop") as pool:
        list(pool.map(tell, arns))


def tag(aws: Aws, task: Task, tags: Mapping[str, str]) -> None:
    """Put tags on a task, in place of those with the same names."""
    aws.call("ecs", "tag_resource", resourceArn=task.arn, tags=as_list(tags))


def request(
    *,
    definition: str,
    container: str,
    command: Sequence[str],
    env_vars: Mapping[str, str],
    subnets: Sequence[str],
    security_groups: Sequence[str],
    public: bool,
    fargate: bool,
    capacity_provider: str | None,
    platform_version: str | None,
    tags: Mapping[str, str],
    further: Mapping[str, Any],
) -> dict[str, Any]:
    """Write what RunTask is told; `further` are the user's own arguments for it, which win.

    The tags alone are put together: by ours the tasks are found again.
    """
    override: dict[str, Any] = {"name": container, "command": list(command)}
    if env_vars:
        override["environment"] = as_list_of_variables(env_vars)
    told: dict[str, Any] = {
        "taskDefinition": definition,
        "overrides": {"containerOverrides": [override]},
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": list(subnets),
                "securityGroups": list(security_groups),
                "assignPublicIp": "ENABLED" if public else "DISABLED",
            }
        },
        "tags": as_list({**from_list(further.get("tags", ())), **tags}),
    }
    if fargate and capacity_provider:
        told["capacityProviderStrategy"] = [{"capacityProvider": capacity_provider}]
    elif fargate:
        told["launchType"] = "FARGATE"
    if fargate and platform_version:
        told["platformVersion"] = platform_version
    return {**told, **{k: v for k, v in further.items() if k != "tags"}}


def as_list_of_variables(env_vars: Mapping[str, str]) -> list[dict[str, str]]:
    """Write process variables as ECS takes them.

    Examples
    --------
    >>> as_list_of_variables({"A": "1"})
    [{'name': 'A', 'value': '1'}]
    """
    return [{"name": name, "value": str(value)} for name, value in env_vars.items()]


def _just_run(arn: str) -> Task:
    """Stand in for a task of which DescribeTasks does not know yet."""
    return Task(arn=arn, status="PROVISIONING", desired="RUNNING")


def _batches(arns: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(arns)
    while batch := list(islice(rest, size)):
        yield batch


def all_over(tasks: list[Task]) -> bool:
    """Tell whether all tasks have ended."""
    return all(task.status in OVER for task in tasks)
