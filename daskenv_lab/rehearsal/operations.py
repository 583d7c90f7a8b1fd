"""The operations of ECS that are ours and not moto's, and what is checked before moto's own."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any

from daskenv_lab.rehearsal.limits import check_definition, check_tags
from daskenv_lab.rehearsal.place import ACCOUNT
from daskenv_lab.rehearsal.refusal import Refused
from daskenv_lab.rehearsal.run_task import active_cluster, run_task
from daskenv_lab.rehearsal.task import USER_INITIATED

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskenv_lab.rehearsal.cloud import Cloud
    from daskenv_lab.rehearsal.task import Task

_DESCRIBED = 100
_PAGE = 100
_TOKENS = 500


class Operations:
    """Answers to ECS calls, each given its parameters; all are called under the cloud's lock."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._by_token: dict[str, tuple[str, dict[str, Any]]] = {}
        self.answered: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "RunTask": self._run_task,
            "StopTask": self._stop_task,
            "DescribeTasks": self._describe_tasks,
            "ListTasks": self._list_tasks,
            "ListTaskDefinitions": self._list_task_definitions,
            "ListTaskDefinitionFamilies": self._list_families,
        }
        self.checked: dict[str, Callable[[dict[str, Any]], None]] = {
            "RegisterTaskDefinition": check_definition,
            "DeleteCluster": self._check_delete_cluster,
            "TagResource": self._check_tag,
            "UntagResource": self._check_resource,
            "ListTagsForResource": self._check_resource,
        }

    def _run_task(self, request: dict[str, Any]) -> dict[str, Any]:
        # botocore sends the same token again when it tries a call again.
        token = request.get("clientToken")
        told = json.dumps(request, sort_keys=True)
        if token in self._by_token:
            before, answer = self._by_token[token]
            if before != told:
                raise Refused(
                    "ConflictException",
                    "The RunTask request could not be processed due to conflicts: the clientToken "
                    "was used with other parameters.",
                )
            return answer
        answer = run_task(self._cloud, request)
        if token:
            self._by_token[token] = (told, answer)
            if len(self._by_token) > _TOKENS:
                self._by_token.pop(next(iter(self._by_token)))
        return answer

    def _stop_task(self, request: dict[str, Any]) -> dict[str, Any]:
        cluster = active_cluster(self._cloud, request)
        task = self._find(cluster.name, str(request.get("task") or ""))
        if task is None:
            raise Refused("InvalidParameterException", "The referenced task was not found.")
        reason = request.get("reason") or "Task stopped by user"
        self._cloud.halt(task, USER_INITIATED, reason)
        return {"task": task.describe(tags=True)}

    def _describe_tasks(self, request: dict[str, Any]) -> dict[str, Any]:
        cluster = active_cluster(self._cloud, request)
        asked = request.get("tasks") or []
        if not asked:
            raise Refused("InvalidParameterException", "Tasks cannot be empty.")
        if len(asked) > _DESCRIBED:
            raise Refused(
                "InvalidParameterException", f"Tasks can not have more than {_DESCRIBED} elements."
            )
        tags = "TAGS" in (request.get("include") or [])
        self._cloud.forget_old()
        tasks, failures = [], []
        for name in dict.fromkeys(asked):
            task = self._find(cluster.name, name)
            if task is None:
                arn = (
                    name
                    if name.startswith("arn:")
                    else f"{cluster.arn.replace(':cluster/', ':task/')}/{name}"
                )
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                tasks.append(task.describe(tags=tags))
        return {"tasks": tasks, "failures": failures}

    def _list_tasks(self, request: dict[str, Any]) -> dict[str, Any]:
        cluster = active_cluster(self._cloud, request)
        others = [k for k in ("family", "containerInstance", "serviceName") if request.get(k)]
        if request.get("startedBy") and others:
            raise Refused(
                "InvalidParameterException",
                f"cannot have {others[0]} and startedBy specified together",
            )
        self._cloud.forget_old()
        desired = request.get("desiredStatus") or "RUNNING"
        arns = [
            task.task_arn
            for task in self._cloud.tasks.values()
            if task.cluster_name == cluster.name
            and task.desired == desired
            and _fits(task, request)
        ]
        return _page("taskArns", arns, request)

    def _list_task_definitions(self, request: dict[str, Any]) -> dict[str, Any]:
        family, status = request.get("familyPrefix"), request.get("status") or "ACTIVE"
        found = [
            (d.family, d.revision, d.arn)
            for revisions in self._cloud.ecs.task_definitions.values()
            for d in revisions.values()
            if d.status == status and family in (None, d.family)
        ]
        ordered = sorted(found, reverse=request.get("sort") == "DESC")
        return _page("taskDefinitionArns", [arn for _, _, arn in ordered], request)

    def _list_families(self, request: dict[str, Any]) -> dict[str, Any]:
        status = request.get("status") or "ACTIVE"
        prefix = request.get("familyPrefix") or ""
        families = [
            name
            for name, revisions in sorted(self._cloud.ecs.task_definitions.items())
            if name.startswith(prefix)
            and (status == "ALL" or any(d.status == status for d in revisions.values()))
        ]
        return _page("families", families, request)

    def _check_delete_cluster(self, request: dict[str, Any]) -> None:
        cluster = active_cluster(self._cloud, request)
        if any(t.cluster_name == cluster.name and not t.ended for t in self._cloud.tasks.values()):
            raise Refused(
                "ClusterContainsTasksException",
                "The Cluster cannot be deleted while Tasks are active.",
            )
        if self._cloud.ecs.container_instances.get(cluster.name):
            raise Refused(
                "ClusterContainsContainerInstancesException",
                "The Cluster cannot be deleted while Container Instances are active or draining.",
            )

    def _check_tag(self, request: dict[str, Any]) -> None:
        check_tags(request.get("tags"))
        self._check_resource(request)

    def _check_resource(self, request: dict[str, Any]) -> None:
        arn = str(request.get("resourceArn") or "")
        if ":task/" in arn and arn not in self._cloud.tasks:
            raise Refused("InvalidParameterException", "The specified task is not found.")

    def _find(self, cluster: str, name: str) -> Task | None:
        whole = f"arn:aws:ecs:{self._cloud.region}:{ACCOUNT}:task/{cluster}/{name}"
        task = self._cloud.tasks.get(name if name.startswith("arn:") else whole)
        return task if task is not None and task.cluster_name == cluster else None


def _fits(task: Task, request: dict[str, Any]) -> bool:
    instance = request.get("containerInstance")
    return (
        request.get("family") in (None, task.family)
        and request.get("startedBy") in (None, task.started_by)
        and request.get("launchType") in (None, task.launch_type)
        and not request.get("serviceName")
        and (
            instance is None
            or (
                task.instance is not None
                and task.instance.container_instance_arn.split("/")[-1] == instance.split("/")[-1]
            )
        )
    )


def _page(key: str, entries: list[str], request: dict[str, Any]) -> dict[str, Any]:
    """Give one page of a list, and a token for the next."""
    size = min(int(request.get("maxResults") or _PAGE), _PAGE)
    first = 0
    if token := request.get("nextToken"):
        with contextlib.suppress(ValueError):
            first = int(base64.b64decode(token))
    told: dict[str, Any] = {key: entries[first : first + size]}
    if first + size < len(entries):
        told["nextToken"] = base64.b64encode(str(first + size).encode()).decode()
    return told
