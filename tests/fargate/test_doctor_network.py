"""The doctor's looks at subnets, routes, DNS and security groups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskenv_lab import DaskCloudProviderEnvironment
from daskenv_lab.providers.fargate import shared
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.providers.fargate.checks import Finding
from daskenv_lab.providers.fargate.checks_group import admits
from daskenv_lab.providers.fargate.doctor import examine

ECR_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/flows:1"


@dataclass(frozen=True)
class Net:
    """A VPC of the user's own."""

    vpc: str
    subnet: str
    table: str
    group: str

    @property
    def arguments(self) -> dict[str, object]:
        """Give it as arguments of a cluster."""
        return {"vpc": self.vpc, "subnets": [self.subnet], "security_groups": [self.group]}


@pytest.fixture
def net(aws: Aws) -> Iterator[Net]:
    """Make a VPC without any way out, and with a group that lets nothing in."""
    shared.ensure(aws, {}, progress=print)
    with contextlib.ExitStack() as undo:
        vpc = aws.call("ec2", "create_vpc", CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
        undo.callback(aws.call, "ec2", "delete_vpc", VpcId=vpc)
        subnet = aws.call("ec2", "create_subnet", VpcId=vpc, CidrBlock="10.7.1.0/24")["Subnet"][
            "SubnetId"
        ]
        undo.callback(aws.call, "ec2", "delete_subnet", SubnetId=subnet)
        group = aws.call(
            "ec2", "create_security_group", GroupName="theirs", Description="x", VpcId=vpc
        )["GroupId"]
        undo.callback(aws.call, "ec2", "delete_security_group", GroupId=group)
        [table] = aws.call(
            "ec2", "describe_route_tables", Filters=[{"Name": "vpc-id", "Values": [vpc]}]
        )["RouteTables"]
        yield Net(vpc=vpc, subnet=subnet, table=table["RouteTableId"], group=group)


def looked_at(**arguments: object) -> dict[str, Finding]:
    """Examine, and give the findings by what they are about."""
    wanted = DaskCloudProviderEnvironment("fargate", rehearse=True, **arguments)
    return {f.what: f for f in examine(wanted, progress=print)}


def test_public_tasks_need_an_internet_gateway(aws: Aws, net: Net) -> None:
    """A subnet without a route to one is named; a route mends it."""
    line = looked_at(**net.arguments)["route of public tasks"]
    assert line.result == "bad"
    assert net.subnet in line.told
    gateway = aws.call("ec2", "create_internet_gateway")["InternetGateway"]["InternetGatewayId"]
    both = {"InternetGatewayId": gateway, "VpcId": net.vpc}
    aws.call("ec2", "attach_internet_gateway", **both)
    route = {"RouteTableId": net.table, "DestinationCidrBlock": "0.0.0.0/0"}
    aws.call("ec2", "create_route", **route, GatewayId=gateway)
    assert looked_at(**net.arguments)["route of public tasks"].result == "good"
    # Private tasks get nothing from it.
    private = looked_at(**net.arguments, fargate_use_private_ip=True)
    assert private["route of private tasks"].result == "bad"
    aws.call("ec2", "delete_route", **route)
    aws.call("ec2", "detach_internet_gateway", **both)


def test_private_tasks_need_endpoints_or_a_nat_gateway(aws: Aws, net: Net) -> None:
    """The services without an endpoint are named, and an image from elsewhere needs a gateway."""
    private = {**net.arguments, "fargate_use_private_ip": True}
    line = looked_at(**private)["route of private tasks"]
    assert line.result == "bad"
    assert "daskdev/dask" in line.told
    line = looked_at(**private, image=ECR_IMAGE)["route of private tasks"]
    assert "ecr.api, ecr.dkr, logs, secretsmanager, s3" in line.told
    with contextlib.ExitStack() as undo:
        for name in ("ecr.api", "ecr.dkr", "logs", "secretsmanager", "s3"):
            where = {"RouteTableIds": [net.table]} if name == "s3" else {"SubnetIds": [net.subnet]}
            made = aws.call(
                "ec2",
                "create_vpc_endpoint",
                VpcId=net.vpc,
                ServiceName=f"com.amazonaws.us-east-1.{name}",
                VpcEndpointType="Gateway" if name == "s3" else "Interface",
                **where,
            )["VpcEndpoint"]["VpcEndpointId"]
            undo.callback(aws.call, "ec2", "delete_vpc_endpoints", VpcEndpointIds=[made])
        assert looked_at(**private, image=ECR_IMAGE)["route of private tasks"].result == "good"


def test_dns_that_is_switched_off(aws: Aws, net: Net) -> None:
    """Host names are worth a warning; a VPC that resolves nothing is bad."""
    line = looked_at(**net.arguments)["DNS of the VPC"]
    assert line.result == "warning"
    assert "enable-dns-hostnames" in line.step
    aws.call("ec2", "modify_vpc_attribute", VpcId=net.vpc, EnableDnsSupport={"Value": False})
    assert looked_at(**net.arguments)["DNS of the VPC"].result == "bad"


def test_a_group_without_the_rules(aws: Aws, net: Net) -> None:
    """The user's own group is not opened by us, so its lines are bad until the rules are there."""
    found = looked_at(**net.arguments)
    line = found["way in for clients"]
    assert line.result == "bad"
    assert f"--group-id {net.group}" in line.step
    assert "--port 8786-8787 --cidr 127.0.0.1/32" in line.step
    assert found["traffic among tasks"].result == "bad"
    assert found["way out for tasks"].result == "good"
    within = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": net.group}]}]
    way_in = [
        {
            "IpProtocol": "tcp",
            "FromPort": 8786,
            "ToPort": 8787,
            "IpRanges": [{"CidrIp": "127.0.0.0/8"}],
        }
    ]
    aws.call(
        "ec2",
        "authorize_security_group_ingress",
        GroupId=net.group,
        IpPermissions=[*within, *way_in],
    )
    found = looked_at(**net.arguments)
    assert found["way in for clients"].result == "good"
    assert found["traffic among tasks"].result == "good"


def test_an_address_that_is_to_be_let_in(aws: Aws, net: Net) -> None:
    """With allow_from also the user's group is opened; opening to the world is warned about."""
    found = looked_at(**net.arguments, allow_from="192.0.2.7")
    assert found["way in for clients"].result == "good"
    wanted = DaskCloudProviderEnvironment(
        "fargate", rehearse=True, allow_from="0.0.0.0/0", **net.arguments
    )
    results = [f.result for f in examine(wanted, progress=print) if f.what == "way in for clients"]
    assert results == ["warning", "good"]


def test_a_group_that_lets_nothing_out(aws: Aws, net: Net) -> None:
    """Tasks there cannot pull their image."""
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    aws.call("ec2", "revoke_security_group_egress", GroupId=net.group, IpPermissions=everything)
    assert looked_at(**net.arguments)["way out for tasks"].result == "bad"


def test_a_subnet_that_is_not_there(aws: Aws, net: Net) -> None:
    """It is named, and what needs the network is skipped."""
    found = looked_at(subnets=["subnet-0123"], security_groups=[net.group])
    assert found["VPC and subnets"].result == "bad"
    assert "subnet-0123" in found["VPC and subnets"].told
    assert found["routes of tasks"].result == "skipped"
    assert found["permissions to look"].result == "good"


@given(first=st.integers(0, 65535), length=st.integers(0, 3000), port=st.integers(0, 65535))
def test_a_rule_lets_in_at_its_ports_only(first: int, length: int, port: int) -> None:
    """All ports from the first to the last, and no other."""
    last = min(first + length, 65535)
    rule = {
        "IpProtocol": "tcp",
        "FromPort": first,
        "ToPort": last,
        "IpRanges": [{"CidrIp": "192.0.2.0/24"}],
    }
    told = admits([rule], (port, port), cidr="192.0.2.9/32")
    assert bool(told) == (first <= port <= last)
    assert not admits([rule], (port, port), cidr="192.0.3.9/32")
    assert not admits([rule], (port, port), cidr="192.0.0.0/16")
    assert not admits([{**rule, "IpProtocol": "udp"}], (port, port), cidr="192.0.2.9/32")
