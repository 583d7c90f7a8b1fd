"""What AWS refuses is refused here, with its codes."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

SLEEP = ["sleep", "300"]


def _refused(call, code: str, *words: str) -> None:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response["Error"]
    assert error["Code"] == code
    for word in words:
        assert word in error["Message"]


@pytest.mark.parametrize(("cpu", "memory"), [("256", "4096"), ("300", "512"), ("1024", "1024")])
def test_invalid_fargate_sizes_are_refused(account, cpu, memory):
    """A pair that Fargate does not offer cannot be registered."""
    _refused(
        lambda: account.define(SLEEP, cpu=cpu, memory=memory),
        "ClientException",
        "No Fargate configuration exists for given values",
    )


def test_sizes_in_vcpu_and_gb_are_read(account):
    """AWS takes "1 vCPU" and "2 GB" as well."""
    arn = account.run(account.define(SLEEP, cpu="1 vCPU", memory="2GB"))
    task = account.see(arn)
    assert (task["cpu"], task["memory"]) == ("1024", "2048")


def test_definitions_that_fargate_cannot_run_are_refused(account):
    """GPUs, other network modes, and secrets without a role are refused."""
    gpu = {"resourceRequirements": [{"type": "GPU", "value": "1"}]}
    _refused(lambda: account.define(SLEEP, container=gpu), "ClientException", "GPU")
    _refused(lambda: account.define(SLEEP, networkMode="bridge"), "ClientException", "awsvpc")
    _refused(
        lambda: account.define(SLEEP, executionRoleArn=""), "ClientException", "execution role"
    )
    _refused(
        lambda: account.define(SLEEP, taskRoleArn="nonsense"),
        "ClientException",
        "Role is not valid",
    )


def test_requests_that_are_too_large_are_refused(account):
    """Overrides, counts, the starter's name and tags have AWS's limits."""
    definition = account.define(SLEEP)
    long = [{"name": "main", "environment": [{"name": "A", "value": "x" * 8192}]}]
    for changes, word in [
        ({"overrides": {"containerOverrides": long}}, "at most 8192"),
        ({"count": 11}, "Count"),
        ({"startedBy": "x" * 129}, "startedBy"),
        ({"tags": [{"key": f"k{i}", "value": ""} for i in range(51)]}, "50"),
        ({"tags": [{"key": "aws:mine", "value": ""}]}, "reserved"),
    ]:
        _refused(
            lambda changes=changes: account.request(definition, **changes),
            "InvalidParameterException",
            word,
        )
    arns = [f"{i:032x}" for i in range(101)]
    _refused(
        lambda: account.ecs.describe_tasks(cluster=account.cluster, tasks=arns),
        "InvalidParameterException",
        "100",
    )
    assert account.ecs.list_tasks(cluster=account.cluster)["taskArns"] == []


def test_names_of_things_that_do_not_exist_are_refused(account):
    """Roles, subnets, groups, clusters, definitions and providers must be there."""
    definition = account.define(SLEEP)
    ghost = account.define(SLEEP, taskRoleArn="arn:aws:iam::123456789012:role/ghost")
    _refused(lambda: account.request(ghost), "ClientException", "unable to assume the role")
    network = {"awsvpcConfiguration": {"subnets": ["subnet-0"]}}
    _refused(
        lambda: account.request(definition, networkConfiguration=network),
        "InvalidParameterException",
        "subnet-0",
    )
    network = {"awsvpcConfiguration": {"subnets": account.subnets, "securityGroups": ["sg-0"]}}
    _refused(
        lambda: account.request(definition, networkConfiguration=network),
        "InvalidParameterException",
        "sg-0",
    )
    _refused(lambda: account.request(definition, cluster="ghost"), "ClusterNotFoundException")
    _refused(lambda: account.request("ghost:1"), "ClientException")
    account.ecs.deregister_task_definition(taskDefinition=definition)
    _refused(lambda: account.request(definition), "ClientException", "inactive")


def test_capacity_providers_share_tasks_by_weight(account):
    """Base and weights are honoured, and a provider that the cluster lacks is refused."""
    definition = account.define(SLEEP)
    strategy = [
        {"capacityProvider": "FARGATE", "base": 1, "weight": 1},
        {"capacityProvider": "FARGATE_SPOT", "weight": 2},
    ]
    tasks = account.request(definition, launchType="", count=4, capacityProviderStrategy=strategy)[
        "tasks"
    ]
    names = sorted(t["capacityProviderName"] for t in tasks)
    assert names == ["FARGATE", "FARGATE", "FARGATE_SPOT", "FARGATE_SPOT"]
    other = account.ecs.create_cluster(clusterName="bare")["cluster"]["clusterArn"]
    _refused(
        lambda: account.request(
            definition, cluster=other, launchType="", capacityProviderStrategy=strategy
        ),
        "InvalidParameterException",
        "not associated",
    )


def test_creating_a_cluster_again_gives_the_same_one(account):
    """CreateCluster keeps a cluster of that name, with its providers."""
    again = account.ecs.create_cluster(clusterName=account.cluster)["cluster"]
    assert again["capacityProviders"] == ["FARGATE", "FARGATE_SPOT"]
