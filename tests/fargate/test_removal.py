"""The shared set of AWS resources, removed: what goes, what stays, and what is not ours."""

from __future__ import annotations

from typing import Any

import pytest

from daskenv_lab import rehearsal
from daskenv_lab.providers.fargate import shared
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.providers.fargate.policies import actions, policy
from daskenv_lab.providers.fargate.resource import ForeignResource, SharedSetInUse

ROLES = ("daskenv-execution", "daskenv-task")


def ensure(aws: Aws, given: dict | None = None, **more: object) -> shared.Shared:
    """Make the set without a word."""
    return shared.ensure(aws, given or {}, progress=lambda _: None, **more)  # type: ignore[arg-type]


def states(aws: Aws, given: dict | None = None) -> list[str]:
    """Give the state of each part."""
    return [r.state for r in shared.plan(aws, given or {})]


@pytest.mark.parametrize("part", range(5))
def test_what_is_not_ours_is_not_touched(empty_aws: Aws, part: int) -> None:
    """Something with our name and without our tags is told about; nothing is made or removed."""
    foreign = FOREIGN[part]
    foreign.make(empty_aws)
    try:
        assert states(empty_aws)[part] == "foreign"
        assert shared.find(empty_aws, {}) is None
        with pytest.raises(ForeignResource, match=foreign.argument):
            ensure(empty_aws)
        assert [s for i, s in enumerate(states(empty_aws)) if i != part] == ["missing"] * 4
        said: list[str] = []
        assert shared.remove(empty_aws, progress=said.append) == []
        assert any("not ours" in sentence for sentence in said)
        assert states(empty_aws)[part] == "foreign"
    finally:
        foreign.unmake(empty_aws)


class Foreign:
    """Something of another person with the name of a part of ours."""

    def __init__(self, argument: str, service: str, make: str, unmake: str, **words: str) -> None:
        self.argument = argument
        self._service, self._make, self._unmake = service, make, unmake
        self._words = words
        self._more: dict[str, Any] = {
            "iam": {"AssumeRolePolicyDocument": "{}"},
            "ec2": {"Description": "theirs"},
            # moto gives a new log group the tags of a removed one with its name.
            "logs": {"tags": {"createdBy": "somebody"}},
        }.get(service, {})

    def make(self, aws: Aws) -> None:
        """Make it."""
        aws.call(self._service, self._make, **self._words, **self._more)

    def unmake(self, aws: Aws) -> None:
        """Remove it."""
        words = {"cluster" if k == "clusterName" else k: v for k, v in self._words.items()}
        aws.call(self._service, self._unmake, **words)


FOREIGN = [
    Foreign("cluster_arn", "ecs", "create_cluster", "delete_cluster", clusterName="daskenv"),
    Foreign(
        "execution_role_arn", "iam", "create_role", "delete_role", RoleName="daskenv-execution"
    ),
    Foreign("task_role_arn", "iam", "create_role", "delete_role", RoleName="daskenv-task"),
    Foreign(
        "cloudwatch_logs_group",
        "logs",
        "create_log_group",
        "delete_log_group",
        logGroupName="/daskenv",
    ),
    Foreign(
        "security_groups",
        "ec2",
        "create_security_group",
        "delete_security_group",
        GroupName="daskenv",
    ),
]


def test_roles_stay_while_another_region_uses_them(empty_aws: Aws) -> None:
    """Roles belong to all regions of an account; the last one takes them away."""
    ensure(empty_aws)
    for name in ROLES:
        # As another region's set leaves it; a rehearsal has one region only.
        tag = {"Key": "daskenv:in:eu-west-1", "Value": "1"}
        empty_aws.call("iam", "tag_role", RoleName=name, Tags=[tag])
    said: list[str] = []
    removed = shared.remove(empty_aws, progress=said.append)
    assert not any("role" in what for what in removed)
    assert sum("another region" in sentence for sentence in said) == 2
    assert states(empty_aws) == ["missing", "damaged", "damaged", "missing", "missing"]
    ensure(empty_aws)
    for name in ROLES:
        empty_aws.call("iam", "untag_role", RoleName=name, TagKeys=["daskenv:in:eu-west-1"])
    shared.remove(empty_aws, progress=lambda _: None)
    assert states(empty_aws) == ["missing"] * 5


def test_the_set_is_not_removed_while_tasks_run(empty_aws: Aws) -> None:
    """The tasks are named, and whose they are; everything still works afterwards."""
    made = ensure(empty_aws)
    task = start_task(empty_aws, made)
    with pytest.raises(SharedSetInUse) as refused:
        shared.remove(empty_aws, progress=lambda _: None)
    number = task.rsplit("/", 1)[-1]
    assert f"runs 1 task (1 of 'dev', ada@here: {number});" in str(refused.value)
    second = start_task(empty_aws, made)
    with pytest.raises(SharedSetInUse, match=r"runs 2 tasks \(2 of 'dev', ada@here\);"):
        shared.remove(empty_aws, progress=lambda _: None)
    assert shared.find(empty_aws, {}) == made
    for started in (task, second):
        empty_aws.call("ecs", "stop_task", cluster="daskenv", task=started)
    removed = shared.remove(empty_aws, progress=lambda _: None)
    assert removed[0] == "ECS cluster daskenv"
    assert "task definition daskenv-test:1" in removed
    assert "log group /daskenv" in removed
    assert states(empty_aws) == ["missing"] * 5


def test_task_definitions_of_others_stay(empty_aws: Aws) -> None:
    """One of our family's prefix without our tag is not ours."""
    ensure(empty_aws)
    theirs = register(empty_aws, "daskenv-theirs", tags=[])
    removed = shared.remove(empty_aws, progress=lambda _: None)
    assert not any("theirs" in what for what in removed)
    told = empty_aws.call("ecs", "describe_task_definition", taskDefinition=theirs)
    assert told["taskDefinition"]["status"] == "ACTIVE"


def test_the_policies_allow_what_is_called(empty_aws: Aws) -> None:
    """What the server counted is allowed: all to the one who bootstraps, finding to the user."""
    account, region = "123456789012", empty_aws.region
    made = ensure(empty_aws)
    register(empty_aws, "daskenv-test")
    rehearsal.forget_calls()
    shared.find(empty_aws, {"subnets": made.subnets[:1]})
    shared.find(empty_aws, {})
    assert set(rehearsal.calls()) <= actions(policy("use", account, region))
    rehearsal.forget_calls()
    shared.remove(empty_aws, progress=lambda _: None)
    shared.plan(empty_aws, {})
    ensure(empty_aws)
    assert set(rehearsal.calls()) <= actions(policy("bootstrap", account, region))


def register(aws: Aws, family: str, tags: list[dict[str, str]] | None = None) -> str:
    """Register a task definition that sleeps."""
    ours = [{"key": "createdBy", "value": "daskenv_lab"}]
    return str(
        aws.call(
            "ecs",
            "register_task_definition",
            family=family,
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[
                {
                    "name": "sleeper",
                    "image": "example",
                    "essential": True,
                    "command": ["python", "-c", "import time; time.sleep(60)"],
                }
            ],
            tags=ours if tags is None else tags,
        )["taskDefinition"]["taskDefinitionArn"]
    )


def start_task(aws: Aws, made: shared.Shared) -> str:
    """Run a task in the shared cluster, with the tags of a cluster of ours."""
    definition = register(aws, "daskenv-test")
    told = {"daskenv:cluster": "8f3e", "daskenv:name": "dev", "daskenv:owner": "ada@here"}
    answer = aws.call(
        "ecs",
        "run_task",
        cluster=made.cluster_arn,
        taskDefinition=definition,
        launchType="FARGATE",
        tags=[{"key": k, "value": v} for k, v in told.items()],
        networkConfiguration={
            "awsvpcConfiguration": {
                "subnets": list(made.subnets),
                "securityGroups": list(made.security_groups),
                "assignPublicIp": "ENABLED",
            }
        },
    )
    return str(answer["tasks"][0]["taskArn"])
