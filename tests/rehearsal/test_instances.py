"""Tasks on container instances, for ECSCluster."""

from __future__ import annotations

SLEEP = ["sleep", "300"]
CLUSTER = "rehearsal-ec2"


def _definition(account, memory: int = 1024, gpus: int = 0) -> str:
    gpu = [{"type": "GPU", "value": str(gpus)}] if gpus else []
    return account.define(
        SLEEP,
        requiresCompatibilities=[],
        memory=str(memory),
        container={"memory": memory, "resourceRequirements": gpu},
    )


def _request(account, definition: str, **changes):
    return account.request(definition, cluster=CLUSTER, launchType="EC2", **changes)


def test_tasks_run_on_instances_and_give_back_what_they_took(account):
    """A task names its instance, whose memory is less while it runs."""
    arn = _request(account, _definition(account))["tasks"][0]["taskArn"]
    task = account.wait(arn, "RUNNING")
    assert task["launchType"] == "EC2"
    instance = task["containerInstanceArn"]

    def left() -> int:
        [told] = account.ecs.describe_container_instances(
            cluster=CLUSTER, containerInstances=[instance]
        )["containerInstances"]
        return next(r["integerValue"] for r in told["remainingResources"] if r["name"] == "MEMORY")

    during = left()
    account.ecs.stop_task(cluster=CLUSTER, task=arn)
    account.wait(arn, "STOPPED")
    assert left() == during + 1024


def test_gpus_are_handed_out_and_run_out(account):
    """Four GPUs there are; the task after them fails for want of one."""
    definition = _definition(account, gpus=2)
    answer = _request(account, definition, count=3)
    assert len(answer["tasks"]) == 2
    assert [f["reason"] for f in answer["failures"]] == ["RESOURCE:GPU"]
    handed = [account.see(t["taskArn"])["containers"][0]["gpuIds"] for t in answer["tasks"]]
    assert len({number for numbers in handed for number in numbers}) == 4


def test_too_little_memory_is_told(account):
    """More memory than any instance has is RESOURCE:MEMORY, and no instances are told too."""
    answer = _request(account, _definition(account, memory=200_000))
    assert [f["reason"] for f in answer["failures"]] == ["RESOURCE:MEMORY"]
    answer = account.request(_definition(account), launchType="EC2")
    assert answer["tasks"] == []
    assert "No Container Instances" in answer["failures"][0]["reason"]
