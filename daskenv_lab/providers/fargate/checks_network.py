"""Looks at the VPC and its subnets: what is there, and the way to the internet or to AWS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskenv_lab.providers.fargate.checks import Check, Finding, Place
from daskenv_lab.providers.fargate.network import Network, choose_subnets
from daskenv_lab.providers.fargate.resource import Given

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daskenv_lab.providers.fargate.aws import Aws
    from daskenv_lab.providers.fargate.checks import Case

_EVERYWHERE = "0.0.0.0/0"
_ENDPOINTS = ("ecr.api", "ecr.dkr", "logs", "secretsmanager")
_STORE = "s3"
"""Where ECR keeps the layers of images; its endpoint may be one of route tables."""

_SOME = 3


def _vpc(case: Case) -> Iterator[Finding]:
    case.place = place = _look(case.account, case.given)
    zones = sorted({str(s.get("AvailabilityZone", "?")) for s in place.subnets})
    free = sum(int(s.get("AvailableIpAddressCount", 0)) for s in place.subnets)
    told = (
        f"{place.vpc} with {len(place.subnets)} subnets in {', '.join(zones)}, "
        f"{free} addresses free"
    )
    if free > case.n_workers:
        yield Finding(what="VPC and subnets", result="good", told=told)
        return
    yield Finding(
        what="VPC and subnets",
        result="bad",
        told=f"{told}, and {1 + case.n_workers} tasks need one each",
        step="name larger subnets with subnets=[…], or ask for fewer workers",
    )


def _look(aws: Aws, given: Mapping[str, Any]) -> Place:
    own = Given.of(given)
    seen = Network(own).look(aws, closely=False)
    chosen = seen.subnets or own.subnets or choose_subnets(aws, str(seen.vpc))
    subnets = aws.call("ec2", "describe_subnets", SubnetIds=list(chosen))["Subnets"]
    vpc = str(seen.vpc or subnets[0]["VpcId"])
    inside = [{"Name": "vpc-id", "Values": [vpc]}]
    groups = own.security_groups or ((seen.identifier,) if seen.state != "missing" else ())
    return Place(
        vpc=vpc,
        subnets=tuple(subnets),
        route_tables=tuple(
            aws.pages("ec2", "describe_route_tables", "RouteTables", Filters=inside)
        ),
        groups=tuple(
            aws.call("ec2", "describe_security_groups", GroupIds=list(groups))["SecurityGroups"]
            if groups
            else ()
        ),
        own_group=not own.security_groups,
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """The default route of a subnet."""

    subnet: str
    kind: str
    """``internet gateway``, ``NAT gateway``, ``other``, or empty if there is none."""
    table: str

    @classmethod
    def of(cls, place: Place, subnet: str) -> _Way:
        table = place.table_of(subnet) or {}
        for route in table.get("Routes", ()):
            if (
                route.get("DestinationCidrBlock") != _EVERYWHERE
                or route.get("State") == "blackhole"
            ):
                continue
            gateway = str(route.get("GatewayId") or "")
            kind = "internet gateway" if gateway.startswith("igw-") else "other"
            kind = "NAT gateway" if route.get("NatGatewayId") else kind
            return cls(subnet, kind, str(table.get("RouteTableId", "")))
        return cls(subnet, "", str(table.get("RouteTableId", "")))


def _routes(case: Case) -> Iterator[Finding]:
    place, settings = case.network, case.wanted
    ways = [_Way.of(place, str(s["SubnetId"])) for s in place.subnets]
    if not settings.private:
        yield _public_routes(ways)
    if settings.private or not settings.fargate_workers:
        yield _private_routes(case, ways)


def _public_routes(ways: list[_Way]) -> Finding:
    """Judge the routes of tasks that have a public address."""
    what = "route of public tasks"
    without = [way.subnet for way in ways if way.kind != "internet gateway"]
    if not without:
        told = "tasks get public addresses, and all subnets lead to an internet gateway"
        return Finding(what=what, result="good", told=told)
    return Finding(
        what=what,
        result="bad",
        told=f"tasks get public addresses, and {_few(without)} have no route to an internet "
        "gateway: a scheduler there cannot be reached",
        step="name subnets that have one with subnets=[…], or set fargate_use_private_ip=True "
        "and connect from inside the VPC",
    )


def _private_routes(case: Case, ways: list[_Way]) -> Finding:
    """Judge the routes of tasks that have a private address only."""
    what = "route of private tasks"
    # An internet gateway serves public addresses only.
    closed = [way for way in ways if way.kind not in ("NAT gateway", "other")]
    if not closed:
        told = "all subnets lead out through a NAT gateway or another network"
        return Finding(what=what, result="good", told=told)
    names = _few([way.subnet for way in closed])
    if ".dkr.ecr." not in case.wanted.image:
        return Finding(
            what=what,
            result="bad",
            told=f"tasks have private addresses only, and {names} have no NAT gateway: the image "
            f"{case.wanted.image} cannot be pulled",
            step="add a NAT gateway and a route to it, or keep the image in ECR behind VPC "
            "endpoints",
        )
    lacking = _endpoints_lacking(case.account, case.network.vpc, closed)
    if not lacking:
        told = "no NAT gateway, and the VPC has endpoints for all that tasks need"
        return Finding(what=what, result="good", told=told)
    return Finding(
        what=what,
        result="bad",
        told=f"{names} have no NAT gateway, and the VPC lacks endpoints for {', '.join(lacking)}",
        step="add these endpoints to the VPC, or a NAT gateway and a route to it",
    )


def _endpoints_lacking(aws: Aws, vpc: str, ways: list[_Way]) -> list[str]:
    """Name the services without which no task starts there, and that have no endpoint.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/vpc-endpoints.html
    """
    found = [
        e
        for e in aws.pages(
            "ec2",
            "describe_vpc_endpoints",
            "VpcEndpoints",
            Filters=[{"Name": "vpc-id", "Values": [vpc]}],
        )
        if str(e.get("State", "available")).lower() == "available"
    ]
    services = {str(e["ServiceName"]) for e in found if e.get("VpcEndpointType") != "Gateway"}
    tables = {
        str(table)
        for e in found
        if e.get("VpcEndpointType") == "Gateway" and e["ServiceName"].endswith(f".{_STORE}")
        for table in e.get("RouteTableIds", ())
    }
    lacking = [n for n in _ENDPOINTS if not any(s.endswith(f".{n}") for s in services)]
    stored = any(s.endswith(f".{_STORE}") for s in services)
    if not stored and any(way.table not in tables for way in ways):
        lacking.append(_STORE)
    return lacking


def _names(case: Case) -> Iterator[Finding]:
    vpc = case.network.vpc
    support, hostnames = (
        bool(
            case.account.call("ec2", "describe_vpc_attribute", VpcId=vpc, Attribute=attribute)[
                f"{attribute[0].upper()}{attribute[1:]}"
            ]["Value"]
        )
        for attribute in ("enableDnsSupport", "enableDnsHostnames")
    )
    if support and hostnames:
        told = f"{vpc} resolves names, and gives its hosts some"
        yield Finding(what="DNS of the VPC", result="good", told=told)
        return
    lacking = "enableDnsHostnames" if support else "enableDnsSupport"
    yield Finding(
        what="DNS of the VPC",
        result="warning" if support else "bad",
        told=f"{vpc} has {lacking} switched off; "
        + (
            "VPC endpoints are then not found by their names"
            if support
            else "tasks find neither their image nor AWS"
        ),
        step="run `aws ec2 modify-vpc-attribute --vpc-id "
        f"{vpc} --{'enable-dns-hostnames' if support else 'enable-dns-support'}`",
    )


def _few(subnets: list[str]) -> str:
    shown = ", ".join(subnets[:_SOME])
    return f"{shown} and {len(subnets) - _SOME} more" if len(subnets) > _SOME else shown


VPC = Check("VPC and subnets", _vpc, ["caller"])
ROUTES = Check("routes of tasks", _routes, ["place", "settings"])
NAMES = Check("DNS of the VPC", _names, ["place"])
