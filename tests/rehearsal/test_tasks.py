"""The life of a task: states, ends, logs, tags, lists."""

from __future__ import annotations

import time

import pytest

from daskenv_lab import rehearsal
from daskenv_lab.rehearsal import Latency
from daskenv_lab.rehearsal.wire import ask

SLEEP = ["sleep", "300"]


def test_a_task_runs_and_its_end_is_told_as_ecs_does(account):
    """A command's output and exit code arrive, and the stop reason has AWS's words."""
    task, output = account.ran(["python", "-c", "print('hello'); raise SystemExit(3)"])
    assert output == "hello"
    assert task["stoppedReason"] == "Essential container in task exited"
    assert task["stopCode"] == "EssentialContainerExited"
    assert task["desiredStatus"] == "STOPPED"
    [container] = task["containers"]
    assert (container["exitCode"], container["lastStatus"]) == (3, "STOPPED")
    stamps = ("createdAt", "pullStartedAt", "pullStoppedAt", "startedAt", "stoppingAt", "stoppedAt")
    assert [task[s] for s in stamps] == sorted(task[s] for s in stamps)


def test_states_come_in_order_and_the_address_with_the_interface(account, here):
    """PROVISIONING has no address, PENDING has it, and RUNNING follows."""
    ask(here, "POST", "latency", Latency(network_interface=0.5, image_pull=0.5).to_dict())
    arn = account.run(account.define(SLEEP), public=True)
    seen: list[str] = []
    address: dict[str, bool] = {}
    deadline = time.monotonic() + 120
    while "RUNNING" not in seen and time.monotonic() < deadline:
        task = account.see(arn)
        status = task["lastStatus"]
        names = {d["name"] for d in task["attachments"][0]["details"]}
        address[status] = "privateIPv4Address" in names
        if status not in seen:
            seen.append(status)
        time.sleep(0.02)
    assert seen == ["PROVISIONING", "PENDING", "RUNNING"]
    assert address == {"PROVISIONING": False, "PENDING": True, "RUNNING": True}
    details = {d["name"]: d["value"] for d in account.see(arn)["attachments"][0]["details"]}
    [interface] = account.ec2.describe_network_interfaces(
        NetworkInterfaceIds=[details["networkInterfaceId"]]
    )["NetworkInterfaces"]
    assert interface["PrivateIpAddress"] == details["privateIPv4Address"]
    assert interface["Association"]["PublicIp"].startswith("127.78.")
    assert interface["Groups"][0]["GroupId"] == account.group


def test_stop_waits_for_sigterm_and_then_kills(account):
    """A process that ignores SIGTERM is killed after the stop timeout; another ends with 143."""
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('no'))\n"
        "print('deaf')\nwhile True: time.sleep(.1)"
    )
    deaf = account.define(["python", "-uc", program], container={"stopTimeout": 2})
    first, second = account.run(deaf), account.run(account.define(SLEEP))
    for arn in (first, second):
        account.wait(arn, "RUNNING")
    deadline = time.monotonic() + 120
    while "deaf" not in account.output(first) and time.monotonic() < deadline:
        time.sleep(0.05)
    begun = time.monotonic()
    for arn in (first, second):
        answer = account.ecs.stop_task(cluster=account.cluster, task=arn, reason="enough")["task"]
        assert answer["desiredStatus"] == "STOPPED"
    polite = account.wait(second, "STOPPED")
    killed = account.wait(first, "STOPPED")
    assert time.monotonic() - begun > 1.9
    assert polite["containers"][0]["exitCode"] == 143
    assert killed["containers"][0]["exitCode"] == 137
    assert account.output(first) == "deaf\nno"
    assert (killed["stoppedReason"], killed["stopCode"]) == ("enough", "UserInitiated")


def test_a_task_stopped_before_it_runs_never_runs(account, here):
    """StopTask during the image's pull leads straight to STOPPED, without an exit code."""
    ask(here, "POST", "latency", Latency(image_pull=60).to_dict())
    arn = account.run(account.define(SLEEP))
    account.wait(arn, "PENDING")
    account.ecs.stop_task(cluster=account.cluster, task=arn)
    task = account.wait(arn, "STOPPED", limit=5)
    assert "exitCode" not in task["containers"][0]
    assert "startedAt" not in task


def test_a_command_that_the_image_lacks_fails_as_on_aws(account):
    """An unknown program stops the task with CannotStartContainerError and 127."""
    arn = account.run(account.define(["dask-schedulerr"]))
    task = account.wait(arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart"
    assert "CannotStartContainerError" in task["stoppedReason"]
    assert '"dask-schedulerr": executable file not found in $PATH' in task["stoppedReason"]
    assert task["containers"][0]["exitCode"] == 127


def test_a_missing_log_group_stops_the_task(account):
    """Without awslogs-create-group the group must exist."""
    options = {
        "awslogs-region": "us-east-1",
        "awslogs-group": "/nowhere",
        "awslogs-stream-prefix": "p",
    }
    settings = {"logDriver": "awslogs", "options": options}
    arn = account.run(account.define(SLEEP, container={"logConfiguration": settings}))
    task = account.wait(arn, "STOPPED")
    assert "The specified log group does not exist" in task["stoppedReason"]


def test_memory_over_the_limit_kills_the_container(account):
    """A task that takes more memory than its definition allows ends with 137."""
    program = "import time; kept = bytearray(700 * 2**20); time.sleep(60)"
    task, _ = account.ran(["python", "-c", program])
    [container] = task["containers"]
    assert container["exitCode"] == 137
    assert container["reason"] == "OutOfMemoryError: Container killed due to memory usage"


def test_tags_groups_and_lists(account):
    """Tags travel, can be changed, and lists filter and page."""
    definition = account.define(SLEEP, tags=[{"key": "from", "value": "definition"}])
    answer = account.request(
        definition,
        count=3,
        startedBy="me/1",
        group="g",
        tags=[{"key": "a", "value": "1"}],
        propagateTags="TASK_DEFINITION",
        enableECSManagedTags=True,
    )
    arns = [t["taskArn"] for t in answer["tasks"]]
    ecs, cluster = account.ecs, account.cluster
    assert {t["key"]: t["value"] for t in account.see(arns[0])["tags"]} == {
        "from": "definition",
        "a": "1",
        "aws:ecs:clusterName": cluster,
    }
    ecs.tag_resource(resourceArn=arns[0], tags=[{"key": "a", "value": "2"}])
    ecs.untag_resource(resourceArn=arns[0], tagKeys=["from"])
    tags = {t["key"]: t["value"] for t in ecs.list_tags_for_resource(resourceArn=arns[0])["tags"]}
    assert (tags["a"], "from" in tags) == ("2", False)
    assert account.see(arns[1])["startedBy"] == "me/1"
    assert account.see(arns[1])["group"] == "g"

    def listed(**filters):
        return set(ecs.list_tasks(cluster=cluster, **filters)["taskArns"])

    assert listed(startedBy="me/1") == listed(family="rehearsed") == set(arns)
    assert listed(startedBy="you") == listed(launchType="EC2") == set()
    pages = ecs.get_paginator("list_tasks").paginate(
        cluster=cluster, PaginationConfig={"PageSize": 2}
    )
    assert [len(page["taskArns"]) for page in pages] == [2, 1]
    found = account.client("resourcegroupstaggingapi").get_resources(
        TagFilters=[{"Key": "a", "Values": ["1"]}]
    )
    assert {r["ResourceARN"] for r in found["ResourceTagMappingList"]} == set(arns[1:])
    ecs.stop_task(cluster=cluster, task=arns[0])
    assert arns[0] in listed(desiredStatus="STOPPED", startedBy="me/1")
    missing = ecs.describe_tasks(cluster=cluster, tasks=[arns[0], "f" * 32])["failures"]
    assert [f["reason"] for f in missing] == ["MISSING"]


def test_the_same_request_sent_again_runs_nothing_new(account):
    """A client token makes RunTask safe to try again."""
    definition = account.define(SLEEP)
    one = account.run(definition, clientToken="t" * 32)
    assert account.run(definition, clientToken="t" * 32) == one
    with pytest.raises(account.ecs.exceptions.ConflictException):
        account.run(definition, clientToken="t" * 32, count=2)


def test_a_cluster_with_tasks_is_not_deleted_and_counts_them(account):
    """DeleteCluster is refused, and DescribeClusters tells the running tasks."""
    arn = account.run(account.define(SLEEP))
    account.wait(arn, "RUNNING")
    [told] = account.ecs.describe_clusters(clusters=[account.cluster])["clusters"]
    assert (told["runningTasksCount"], told["pendingTasksCount"]) == (1, 0)
    with pytest.raises(account.ecs.exceptions.ClusterContainsTasksException):
        account.ecs.delete_cluster(cluster=account.cluster)
    account.ecs.stop_task(cluster=account.cluster, task=arn)
    account.wait(arn, "STOPPED")
    [told] = account.ecs.describe_clusters(clusters=[account.cluster])["clusters"]
    assert (told["runningTasksCount"], told["pendingTasksCount"]) == (0, 0)


def test_calls_are_counted_by_service_and_operation(account):
    """Benchmarks read the number of calls from here."""
    rehearsal.forget_calls()
    account.ecs.list_clusters()
    account.client("sts").get_caller_identity()
    assert rehearsal.calls() == {"ecs:ListClusters": 1, "sts:GetCallerIdentity": 1}
