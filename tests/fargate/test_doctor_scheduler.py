"""The doctor on the way to a running scheduler: each failing hop is named, and only that one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import psutil
import pytest

from daskenv_lab import DaskCloudProviderEnvironment, rehearsal
from daskenv_lab.bounded import Deadline
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.providers.fargate import (
    checks_scheduler,
    definitions,
    fleet,
    ingress,
    shared,
    vault,
)
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.providers.fargate.checks import Finding
from daskenv_lab.providers.fargate.checks_group import admits, rules_of
from daskenv_lab.providers.fargate.doctor import examine
from daskenv_lab.providers.fargate.fleet import Order, Task
from daskenv_lab.providers.fargate.provider import FargateProvider
from daskenv_lab.providers.fargate.shared import Shared
from daskenv_lab.providers.fargate.tags import Identity
from daskenv_lab.providers.fargate.tls import Tls

ENVIRONMENT = DaskCloudProviderEnvironment("fargate", rehearse=True)
HOPS = ["task", "address", "security group", "port", "certificates", "answer"]


def hops(ref: ClusterRef) -> dict[str, Finding]:
    """Examine a cluster, and give what is said of the way to its scheduler."""
    found = examine(ENVIRONMENT, ref=ref, progress=print)
    return {
        f.what.removeprefix("scheduler: "): f for f in found if f.what.startswith("scheduler: ")
    }


def failing(found: Mapping[str, Finding]) -> Finding:
    """Give the one line that is bad: the last one, all before it being good."""
    *before, last = found.values()
    assert [f.result for f in before] == ["good"] * len(before)
    assert last.result == "bad"
    assert last.step
    return last


@pytest.fixture(scope="module")
def cluster(aws: Aws) -> Iterator[ClusterRef]:
    """Give a cluster without workers."""
    provider = FargateProvider(ENVIRONMENT)
    ref = provider.create("doctored", timeout=60, progress=print, on_submitted=print)
    yield ref
    provider.shutdown(ref, timeout=60)


def scheduler_task(aws: Aws, ref: ClusterRef) -> Task:
    """Find the scheduler's task."""
    [task] = fleet.of_cluster(aws, "daskenv", f"daskenv/{ref.id}")
    return task


def test_every_hop_of_a_healthy_cluster_is_good(cluster: ClusterRef) -> None:
    """From the task to Dask's own answer."""
    found = hops(cluster)
    assert list(found) == HOPS
    assert {f.result for f in found.values()} == {"good"}


def test_rules_are_judged_as_they_work(aws: Aws, cluster: ClusterRef) -> None:
    """For many addresses and ports our judgement is that of the network itself."""
    task = scheduler_task(aws, cluster)
    [interface] = aws.call(
        "ec2", "describe_network_interfaces", NetworkInterfaceIds=[task.interface]
    )["NetworkInterfaces"]
    ids = [g["GroupId"] for g in interface["Groups"]]
    rules = rules_of(aws.call("ec2", "describe_security_groups", GroupIds=ids)["SecurityGroups"])
    for cidr in ("127.0.0.1/32", "127.0.0.0/8", "192.0.2.7/32", "2001:db8::1/128"):
        for port in (22, 8785, 8786, 8787, 8788):
            ours = bool(admits(rules, (port, port), cidr=cidr))
            assert ours == rehearsal.reach(cidr, task.arn, port).allowed, (cidr, port)


def test_a_rule_that_is_gone(aws: Aws, cluster: ClusterRef) -> None:
    """The security group is named, with the command that lets us in; the port is not blamed."""
    found = shared.find(aws, {})
    assert found is not None
    assert found.own_group is not None
    ingress.withdraw(aws, found.own_group, wanted=set)
    try:
        line = failing(hops(cluster))
        assert line.what == "scheduler: security group"
        assert "127.0.0.1/32" in line.told
        assert found.own_group in line.step
    finally:
        ingress.allow(aws, found.own_group, "127.0.0.1/32", who="test")
    assert list(hops(cluster)) == HOPS


def test_a_process_that_hangs(
    aws: Aws, cluster: ClusterRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process takes connections, and says nothing."""
    monkeypatch.setattr(checks_scheduler, "_ONE_HOP", 1.0)
    address = str(scheduler_task(aws, cluster).private_ip)
    [pid] = {
        c.pid
        for c in psutil.net_connections("tcp4")
        if c.status == "LISTEN" and c.laddr == (address, 8786) and c.pid
    }
    os.kill(pid, signal.SIGSTOP)
    try:
        line = failing(hops(cluster))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert line.what == "scheduler: certificates"
    assert "hangs" in line.told


def test_another_certificate(aws: Aws, cluster: ClusterRef) -> None:
    """What answers does not have the certificate of the cluster's secret."""
    identity = scheduler_task(aws, cluster).identity
    assert identity is not None
    right = aws.call("secretsmanager", "get_secret_value", SecretId=identity.secret)
    other = json.dumps(fresh())
    aws.call("secretsmanager", "put_secret_value", SecretId=identity.secret, SecretString=other)
    try:
        line = failing(hops(cluster))
    finally:
        aws.call(
            "secretsmanager",
            "put_secret_value",
            SecretId=identity.secret,
            SecretString=right["SecretString"],
        )
    assert line.what == "scheduler: certificates"
    assert "another certificate" in line.told


Pretender = Callable[..., ClusterRef]


@pytest.fixture
def pretender(aws: Aws) -> Iterator[Pretender]:
    """Give a function that runs a command as if it were a scheduler with TLS."""
    made = shared.ensure(aws, {}, progress=print)
    assert made.own_group is not None
    ingress.allow(aws, made.own_group, "127.0.0.1/32", who="test")
    with contextlib.ExitStack() as undo:

        def run(*command: str, public: bool = True) -> ClusterRef:
            kept = vault.put(aws, lambda name: replace(identity, secret=name), fresh())
            undo.callback(vault.remove, aws, identity.cluster, name=kept.name)
            order = ordered(aws, made, replace(identity, secret=kept.name), command, public)
            limit = Deadline(30)
            tasks = fleet.run(aws, order, 1, deadline=limit, progress=print)
            arns = [t.arn for t in tasks]
            undo.callback(fleet.stop, aws, "daskenv", arns, reason="test")
            fleet.wait(
                aws, "daskenv", arns, lambda found: found[0].status == "RUNNING", deadline=limit
            )
            return ClusterRef(provider="fargate", id=identity.cluster, location="rehearsal")

        identity = Identity(
            cluster=vault.token(),
            name="pretender",
            owner="ada@test",
            public="1",
            allow="1.2.3.4/32",
        )
        yield run


def fresh() -> dict[str, str]:
    """Make the content of a cluster's secret."""
    return Tls.fresh().to_dict()


def ordered(
    aws: Aws, made: Shared, identity: Identity, command: tuple[str, ...], public: bool
) -> Order:
    """Write the order of a task."""
    definition = definitions.definition(
        "scheduler",
        image="pretender",
        cpu=256,
        memory=512,
        gpu=None,
        architecture="X86_64",
        fargate=True,
        execution_role_arn=made.execution_role_arn,
        task_role_arn=made.task_role_arn,
        log_group=made.log_group,
        region=aws.region,
        env_vars={},
        secrets={},
        mount_points=(),
        volumes=(),
        tags={},
    )
    return Order(
        ecs_cluster=made.cluster_arn,
        started_by=identity.started_by,
        request=fleet.request(
            definition=definitions.ensure(aws, definition),
            container="dask-scheduler",
            command=command,
            env_vars={},
            subnets=made.subnets,
            security_groups=made.security_groups,
            public=public,
            fargate=True,
            capacity_provider=None,
            platform_version=None,
            tags=identity.tags(role="scheduler"),
            further={},
        ),
    )


def test_a_port_at_which_nobody_listens(pretender: Pretender) -> None:
    """The task runs, and its process does not listen."""
    line = failing(hops(pretender("sleep", "60")))
    assert line.what == "scheduler: port"
    assert "does not listen" in line.told


def test_a_scheduler_without_a_public_address(pretender: Pretender) -> None:
    """The address is the failing hop."""
    line = failing(hops(pretender("sleep", "60", public=False)))
    assert line.what == "scheduler: address"
    assert "internet gateway" in line.step


@pytest.fixture
def plain(aws: Aws, pretender: Pretender) -> ClusterRef:
    """Give a scheduler without TLS where one with a certificate should be."""
    ref = pretender("python", "-m", "distributed.cli.dask_scheduler", "--port", "8786")
    task = scheduler_task(aws, ref)
    deadline = Deadline(30)
    while not listens(str(task.private_ip)) and not deadline.passed:
        deadline.pause(0.1)
    deadline.pause(0.5)  # until the way from the public address is open as well
    return ref


def test_a_scheduler_that_speaks_no_tls(plain: ClusterRef) -> None:
    """What listens there is no scheduler with a certificate."""
    line = failing(hops(plain))
    assert line.what == "scheduler: certificates"
    assert "speaks no TLS" in line.told


def test_a_secret_that_is_gone(aws: Aws, plain: ClusterRef) -> None:
    """Without the TLS material nobody gets in, and the line says what to do."""
    vault.remove(aws, plain.id)
    line = failing(hops(plain))
    assert line.what == "scheduler: certificates"
    assert "gone" in line.told
    assert "daskenv up" in line.step


def listens(address: str) -> bool:
    """Tell whether somebody listens at the scheduler's port of an address."""
    connections = psutil.net_connections("tcp4")
    return any(c.status == "LISTEN" and c.laddr == (address, 8786) for c in connections)


@pytest.mark.slow
def test_a_cluster_that_was_stopped(aws: Aws) -> None:
    """The task is the failing hop, with ECS's reason."""
    provider = FargateProvider(ENVIRONMENT)
    ref = provider.create("stopped", timeout=60, progress=print, on_submitted=print)
    try:
        task = scheduler_task(aws, ref)
        address = str(task.private_ip)
        [pid] = {
            c.pid
            for c in psutil.net_connections("tcp4")
            if c.laddr == (address, 8786) and c.status == "LISTEN" and c.pid
        }
        os.kill(pid, signal.SIGKILL)
        limit = Deadline(20)
        fleet.wait(aws, "daskenv", [task.arn], lambda f: f[0].status == "STOPPED", deadline=limit)
        line = failing(hops(ref))
        assert line.what == "scheduler: task"
        assert "Essential container" in line.told
        assert "137" in line.told
    finally:
        provider.shutdown(ref, timeout=60)
    assert failing(hops(ref)).what == "scheduler: task"


def test_a_cluster_that_nobody_knows() -> None:
    """The other lines are there, and the way to the scheduler ends at its task."""
    ref = ClusterRef(provider="fargate", id="0123456789abcdef", location="rehearsal")
    line = failing(hops(ref))
    assert "does not run any more" in line.told
