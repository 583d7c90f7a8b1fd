"""What the user gives for ECS arrives there, as the API shows it."""

from __future__ import annotations

from typing import Any

import pytest

from daskenv_lab import DaskCloudProviderEnvironment
from daskenv_lab.errors import DaskEnvLabError, EnvironmentValueError
from daskenv_lab.providers import provider_for
from daskenv_lab.providers.fargate import fleet, settings, shared
from daskenv_lab.providers.fargate.aws import Aws

LIMIT = 120.0
EC2 = "arn:aws:ecs:us-east-1:123456789012:cluster/rehearsal-ec2"


def environment(kind: str = "fargate", **given: Any) -> DaskCloudProviderEnvironment:
    """Give an environment in the rehearsal."""
    return DaskCloudProviderEnvironment(kind, rehearse=True, **given)


def definition(aws: Aws, task: fleet.Task) -> dict[str, Any]:
    """Read the definition of a task."""
    told = aws.call("ecs", "describe_task_definition", taskDefinition=task.definition)
    return dict(told["taskDefinition"])


@pytest.mark.slow
def test_fargates_options_reach_ecs(aws: Aws) -> None:
    """Spot, ARM, sizes, roles, groups, subnets, volumes, tags and variables go through as given."""
    own = shared.ensure(aws, {}, progress=str)
    volumes = [{"name": "data", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]
    mounts = [{"sourceVolume": "data", "containerPath": "/data", "readOnly": True}]
    asked = environment(
        n_workers=1,
        image="ghcr.io/example/flows:1",
        fargate_spot=True,
        fargate_use_private_ip=True,
        cpu_architecture="arm64",
        worker_cpu=512,
        worker_mem=3072,
        worker_nthreads=2,
        scheduler_cpu=256,
        scheduler_mem=1024,
        execution_role_arn=own.execution_role_arn,
        task_role_arn=own.task_role_arn,
        vpc=own.vpc,
        subnets=list(own.subnets[:1]),
        security_groups=list(own.security_groups),
        platform_version="1.4.0",
        volumes=volumes,
        mount_points=mounts,
        tags={"team": "maps"},
        environment={"A": "b"},
    )
    provider = provider_for(asked)
    ref = provider.create("options", timeout=LIMIT, progress=str, on_submitted=lambda _: None)
    connection = provider.connect(ref, timeout=LIMIT)
    try:
        connection.client.wait_for_workers(1, timeout=LIMIT)
        [info] = connection.info().workers
        tasks = fleet.of_cluster(aws, "daskenv", f"daskenv/{ref.id}")
        told = {
            t.role: (t, raw)
            for t in tasks
            for raw in aws.call("ecs", "describe_tasks", cluster="daskenv", tasks=[t.arn])["tasks"]
        }
    finally:
        provider.close(connection)
        provider.shutdown(ref, timeout=LIMIT)
    assert (info.nthreads, info.memory_limit) == (2, 3072 * 1024**2)
    worker, raw = told["worker"]
    assert raw["capacityProviderName"] == "FARGATE_SPOT"
    assert told["scheduler"][1]["capacityProviderName"] == "FARGATE"
    assert raw["platformVersion"] == "1.4.0"
    assert worker.tags["team"] == "maps"
    assert worker.tags["daskenv:name"] == "options"
    written = definition(aws, worker)
    assert (written["cpu"], written["memory"]) == ("512", "3072")
    assert written["runtimePlatform"]["cpuArchitecture"] == "ARM64"
    assert written["volumes"][0]["efsVolumeConfiguration"]["fileSystemId"] == "fs-1"
    [container] = written["containerDefinitions"]
    assert container["image"] == "ghcr.io/example/flows:1"
    assert container["mountPoints"] == mounts
    assert {"name": "A", "value": "b"} in container["environment"]
    assert definition(aws, told["scheduler"][0])["volumes"] == []
    assert connection.address.startswith("tls://127.77.")


@pytest.mark.slow
def test_gpus_on_a_cluster_of_the_users(aws: Aws) -> None:
    """A GPU is asked for where the cluster has some, and why its worker ends is told."""
    asked = environment(
        "ecs", cluster_arn=EC2, n_workers=1, worker_gpu=1, worker_cpu=512, worker_mem=900,
        scheduler_cpu=512, scheduler_mem=900, image="rapids",
    )  # fmt: skip
    provider = provider_for(asked)
    ref = provider.create("gpu", timeout=LIMIT, progress=str, on_submitted=lambda _: None)
    connection = provider.connect(ref, timeout=LIMIT)
    try:
        order = fleet.Order.from_dict(connection.label()["workers_order"])
        [override] = order.request["overrides"]["containerOverrides"]
        assert list(override["command"])[:3] == ["dask", "cuda", "worker"]
        written = aws.call(
            "ecs", "describe_task_definition", taskDefinition=order.request["taskDefinition"]
        )
        [container] = written["taskDefinition"]["containerDefinitions"]
        assert container["resourceRequirements"] == [{"type": "GPU", "value": "1"}]
        assert "launchType" not in order.request
    finally:
        provider.close(connection)
        provider.shutdown(ref, timeout=LIMIT)


@pytest.mark.slow
def test_the_users_own_task_definitions_are_used(aws: Aws) -> None:
    """Definitions given by ARN are run as they are, and none is registered beside them."""
    own = shared.ensure(aws, {}, progress=str)
    arns = {}
    for role in ("scheduler", "worker"):
        made = aws.call(
            "ecs", "register_task_definition", family=f"theirs-{role}", networkMode="awsvpc",
            executionRoleArn=own.execution_role_arn, cpu="256", memory="1024",
            requiresCompatibilities=["FARGATE"],
            containerDefinitions=[{"name": f"dask-{role}", "image": "theirs", "essential": True}],
        )  # fmt: skip
        arns[f"{role}_task_definition_arn"] = made["taskDefinition"]["taskDefinitionArn"]
    asked = environment(n_workers=1, worker_cpu=256, worker_mem=1024, **arns)
    provider = provider_for(asked)
    with pytest.warns(UserWarning, match="overrides"):
        ref = provider.create("theirs", timeout=LIMIT, progress=str, on_submitted=lambda _: None)
    connection = provider.connect(ref, timeout=LIMIT)
    try:
        connection.client.wait_for_workers(1, timeout=LIMIT)
        tasks = fleet.of_cluster(aws, "daskenv", f"daskenv/{ref.id}")
        assert {t.definition for t in tasks} == set(arns.values())
        assert connection.address.startswith("tls://")
    finally:
        provider.close(connection)
        provider.shutdown(ref, timeout=LIMIT)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"worker_cpu": 512, "worker_mem": 512}, "1024"),
        ({"worker_gpu": 1}, "no GPUs"),
        ({"worker_men": 1024}, "did you mean 'worker_mem'"),
        ({"worker_cpu": "half"}, "no whole number"),
        ({"scheduler_timeout": "soon"}, "no duration"),
        ({"scheduler_address": "tcp://10.0.0.5:8786"}, "`remote` environment"),
        ({"allow_from": "next door"}, "neither an address nor a CIDR"),
        ({"task_role_policies": ["arn:aws:iam::aws:policy/ReadOnlyAccess"]}, "task_role_arn"),
    ],
)
def test_bad_arguments_are_refused_before_any_call(given: dict[str, Any], told: str) -> None:
    """The sentence holds the value and what to give in its place."""
    with pytest.raises(EnvironmentValueError, match=told):
        settings.resolve(settings.check(environment(**given)))


def test_ecs_without_a_cluster_uses_the_shared_one() -> None:
    """The kind `ecs` needs no Fargate sizes, and names its resources by the same arguments."""
    resolved = settings.resolve(settings.check(environment("ecs", worker_cpu=700, worker_mem=700)))
    assert (resolved.worker_cpu, resolved.fargate_workers) == (700, False)
    assert settings.resources(environment("ecs", cluster_arn=EC2)) == {"cluster_arn": EC2}


def test_allow_from_is_no_way_into_groups_of_the_users(aws: Aws) -> None:
    """Groups that the user gave are never changed, and the contradiction is told."""
    own = shared.ensure(aws, {}, progress=str)
    asked = environment(security_groups=list(own.security_groups), allow_from="192.0.2.7")
    provider = provider_for(asked)
    with pytest.raises(DaskEnvLabError, match="not ours to change"):
        provider.create("both", timeout=LIMIT, progress=str, on_submitted=lambda _: None)
