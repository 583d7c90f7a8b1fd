"""Addresses, doors to the world, and security groups."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.request

import pytest

from daskenv_lab import rehearsal
from daskenv_lab.errors import UnknownNameError


def _server(account, **changes):
    """Run a Dask scheduler, the program that listens where it is told to."""
    command = ["python", "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    return account.run(account.define(command), public=True, **changes)


def _addresses(account, arn: str) -> tuple[str, str]:
    details = {d["name"]: d["value"] for d in account.see(arn)["attachments"][0]["details"]}
    [interface] = account.ec2.describe_network_interfaces(
        NetworkInterfaceIds=[details["networkInterfaceId"]]
    )["NetworkInterfaces"]
    return interface["PrivateIpAddress"], interface["Association"]["PublicIp"]


def _open(address: str, port: int = 8786, limit: float = 0.0) -> bool:
    """Tell whether something listens, waiting for it if asked to."""
    deadline = time.monotonic() + limit
    while True:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 2) as link:
            # A door that is shut at once is no open door.
            link.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                return link.recv(1) != b""
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def test_the_world_comes_in_only_where_a_rule_lets_it(account):
    """A public port is shut, opens with a rule for this machine, and shuts when it is revoked."""
    arn = _server(account)
    account.wait(arn, "RUNNING")
    private, public = _addresses(account, arn)
    assert private.startswith("127.77.")
    assert public == private.replace("127.77.", "127.78.")
    assert _open(private, limit=30)
    assert not _open(public, limit=0.5)
    account.allow(port=8786, IpRanges=[{"CidrIp": "203.0.113.0/24"}])
    assert not _open(public, limit=0.5)
    account.allow(port=8786, IpRanges=[{"CidrIp": "127.0.0.1/32"}])
    assert _open(public, limit=10)
    reached = rehearsal.reach("127.0.0.1", arn, 8786)
    assert (reached.allowed, reached.rule) == (
        True,
        f"{account.group}: tcp 8786 from 127.0.0.1/32",
    )
    assert not rehearsal.reach("127.0.0.1", arn, 8787).allowed
    assert rehearsal.reach("203.0.113.7", arn, 8786).allowed
    assert not rehearsal.reach("0.0.0.0/0", arn, 8786).allowed
    account.ec2.revoke_security_group_ingress(
        GroupId=account.group,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 8786,
                "ToPort": 8786,
                "IpRanges": [{"CidrIp": "127.0.0.1/32"}],
            }
        ],
    )
    time.sleep(0.3)
    assert not _open(public)


def test_a_task_reaches_another_only_where_a_rule_lets_it(account):
    """A worker whose group is not let in really cannot connect; with a rule it can."""
    arn = _server(account)
    account.wait(arn, "RUNNING")
    private, _ = _addresses(account, arn)
    assert _open(private, limit=30)
    look = (
        "import socket, sys\n"
        "host, port = sys.argv[1].removeprefix('tcp://').split(':')\n"
        "try:\n    socket.create_connection((host, int(port)), 3)\n    print('in')\n"
        "except OSError:\n    print('out')"
    )
    command = ["python", "-c", look, f"tcp://{private}:8786"]
    task, output = account.ran(command)
    assert output == "out"
    assert not rehearsal.reach(task["taskArn"], arn, 8786).allowed
    account.allow(port=8786, UserIdGroupPairs=[{"GroupId": account.group}])
    assert account.ran(command)[1] == "in"


def test_a_group_in_use_is_not_deleted(account):
    """DeleteSecurityGroup is refused while a task has it, and works afterwards."""
    arn = account.run(account.define(["sleep", "300"]))
    account.wait(arn, "RUNNING")
    with pytest.raises(account.ec2.exceptions.ClientError, match="DependencyViolation"):
        account.ec2.delete_security_group(GroupId=account.group)
    account.ecs.stop_task(cluster=account.cluster, task=arn)
    account.wait(arn, "STOPPED")
    account.ec2.delete_security_group(GroupId=account.group)


def test_two_schedulers_have_the_same_port_on_their_own_addresses(account):
    """Nothing listens on all addresses, and both answer."""
    command = ["python", "-m", "distributed.cli.dask_scheduler"]
    definition = account.define(command)
    arns = [t["taskArn"] for t in account.request(definition, count=2, public=True)["tasks"]]
    for port in (8786, 8787):
        account.allow(port=port, IpRanges=[{"CidrIp": "127.0.0.1/32"}])
    for arn in arns:
        account.wait(arn, "RUNNING")
    publics = [_addresses(account, arn)[1] for arn in arns]
    assert len(set(publics)) == 2
    for public in publics:
        assert _open(public, limit=40)
        with urllib.request.urlopen(f"http://{public}:8787/health", timeout=10) as answer:
            assert answer.status == 200


def test_a_question_about_an_unknown_task_is_an_error(account):
    """`reach` says which task it does not know."""
    with pytest.raises(UnknownNameError, match="arn:none"):
        rehearsal.reach("127.0.0.1", "arn:none", 8786)
