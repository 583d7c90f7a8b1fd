"""The network of our tasks: the VPC, its subnets, and one security group of our own in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import ProviderError
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused
from daskenv_lab.providers.fargate.resource import NAME, Given, Resource, is_shared
from daskenv_lab.providers.fargate.tags import as_list, from_list

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUBNETS = "daskenv:subnets"
"""A tag on our group: the subnets chosen when it was made, so that nobody looks for them again."""
_MOST_SUBNETS = 10  # of 24 characters each, in a tag of 256; ECS takes up to 16
_DESCRIPTION = "Dask clusters of daskenv_lab - everything within the group"


@dataclass(frozen=True, slots=True)
class Network:
    """The security group, in the VPC that the user gave, or that has it, or the default one.

    Which subnets tasks go to is read from a tag of the group: the default subnets with a route
    to an internet gateway, or any that have one, or else all of the VPC.
    """

    given: Given

    def look(self, aws: Aws, *, closely: bool) -> Resource:
        """See how it is; `closely` also looks whether the subnets are still there."""
        if self.given.security_groups:
            return self._look_at_given(aws)
        groups = aws.call(
            "ec2", "describe_security_groups", Filters=[{"Name": "group-name", "Values": [NAME]}]
        )["SecurityGroups"]
        vpc = self._vpc(aws, groups)
        here = sorted((g for g in groups if g["VpcId"] == vpc), key=lambda g: g["GroupId"])
        seen = Resource(kind="security group", name=NAME, state="missing", vpc=vpc)
        if not here:
            return replace(seen, note=f"in {vpc}")
        group = here[0]
        tags = from_list(group.get("Tags", ()))
        seen = replace(seen, identifier=group["GroupId"], state="exists")
        if not is_shared(tags):
            return replace(seen, state="foreign", note=f"in {vpc}, without our tags")
        subnets = self.given.subnets or tuple(tags.get(_SUBNETS, "").split())
        if not subnets:
            return replace(seen, state="damaged", note="no subnets are chosen")
        if not _open_within(group):
            return replace(seen, state="damaged", note="no traffic within the group")
        if closely and set(subnets) - _present(aws, subnets):
            return replace(seen, state="damaged", note="a subnet is not there any more")
        return replace(seen, subnets=subnets, note=f"in {vpc}")

    def mend(self, aws: Aws, seen: Resource, tags: Mapping[str, str]) -> None:
        """Make the group, or open it within, or choose the subnets again."""
        group = seen.identifier
        if group is None:
            group = aws.call(
                "ec2",
                "create_security_group",
                GroupName=NAME,
                Description=_DESCRIPTION,
                VpcId=seen.vpc,
                TagSpecifications=[
                    {"ResourceType": "security-group", "Tags": as_list(tags, upper=True)}
                ],
            )["GroupId"]
        try:
            aws.call(
                "ec2",
                "authorize_security_group_ingress",
                GroupId=group,
                IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}],
            )
        except AwsRefused as refused:
            if refused.code != "InvalidPermission.Duplicate":
                raise
        # Last, so that a group that has it is whole.
        chosen = choose_subnets(aws, str(seen.vpc))
        aws.call(
            "ec2",
            "create_tags",
            Resources=[group],
            Tags=as_list({_SUBNETS: " ".join(chosen[:_MOST_SUBNETS])}, upper=True),
        )

    def remove(self, aws: Aws, seen: Resource) -> bool:
        """Remove the group; AWS refuses while a network interface is in it."""
        aws.call("ec2", "delete_security_group", GroupId=seen.identifier)
        return True

    def _look_at_given(self, aws: Aws) -> Resource:
        own = self.given
        seen = Resource(
            kind="security group",
            name=", ".join(own.security_groups),
            identifier=own.security_groups[0],
            state="given",
            vpc=own.vpc if own.vpc != "default" else None,
            subnets=own.subnets,
        )
        if own.subnets:
            return seen
        groups = aws.call("ec2", "describe_security_groups", GroupIds=list(own.security_groups))
        vpc = str(groups["SecurityGroups"][0]["VpcId"])
        return replace(seen, vpc=vpc, subnets=choose_subnets(aws, vpc))

    def _vpc(self, aws: Aws, groups: list[Any]) -> str:
        """Decide on the VPC; mostly without a call of its own."""
        if self.given.vpc not in (None, "default"):
            return str(self.given.vpc)
        if self.given.subnets:
            found = aws.call("ec2", "describe_subnets", SubnetIds=list(self.given.subnets))
            vpcs = {str(s["VpcId"]) for s in found["Subnets"]}
            if len(vpcs) != 1:
                raise ProviderError(
                    f"subnets={list(self.given.subnets)} are in {len(vpcs)} VPCs, "
                    f"{', '.join(sorted(vpcs))}; give subnets of one VPC"
                )
            return vpcs.pop()
        ours = {str(g["VpcId"]) for g in groups if is_shared(from_list(g.get("Tags", ())))}
        if self.given.vpc is None and len(ours) == 1:
            return ours.pop()
        return default_vpc(aws)


def every_group(aws: Aws) -> list[Resource]:
    """List the security groups of our name in all VPCs, ours and foreign ones."""
    found = aws.pages(
        "ec2",
        "describe_security_groups",
        "SecurityGroups",
        Filters=[{"Name": "group-name", "Values": [NAME]}],
    )
    return [
        Resource(
            kind="security group",
            name=NAME,
            identifier=group["GroupId"],
            state="exists" if is_shared(from_list(group.get("Tags", ()))) else "foreign",
            vpc=group["VpcId"],
        )
        for group in found
    ]


def default_vpc(aws: Aws) -> str:
    """Find the default VPC.

    Raises
    ------
    ProviderError
        The region has none.
    """
    found = aws.call("ec2", "describe_vpcs", Filters=[{"Name": "is-default", "Values": ["true"]}])
    if not found["Vpcs"]:
        raise ProviderError(
            f"the region {aws.region} has no default VPC; name one with vpc='vpc-…', or subnets "
            "and security_groups of your own"
        )
    return str(found["Vpcs"][0]["VpcId"])


def choose_subnets(aws: Aws, vpc: str) -> tuple[str, ...]:
    """Choose the subnets of a VPC for tasks.

    Returns
    -------
    tuple of str
        The default subnets with a route to an internet gateway; if there are none, all subnets
        with such a route; if there are none, all.

    Raises
    ------
    ProviderError
        The VPC has no subnets.
    """
    inside = [{"Name": "vpc-id", "Values": [vpc]}]
    subnets = [
        s
        for s in aws.pages("ec2", "describe_subnets", "Subnets", Filters=inside)
        if s.get("State", "available") == "available"
    ]
    if not subnets:
        raise ProviderError(
            f"the VPC {vpc} has no subnets; make some, or name another with vpc='vpc-…'"
        )
    tables = list(aws.pages("ec2", "describe_route_tables", "RouteTables", Filters=inside))
    public = [s for s in subnets if _leads_out(s["SubnetId"], tables)]
    by_default = [s for s in public if s.get("DefaultForAz")]
    best = by_default or public or subnets
    best.sort(key=lambda s: (s.get("AvailabilityZone", ""), s["SubnetId"]))
    return tuple(str(s["SubnetId"]) for s in best)


def _leads_out(subnet: str, tables: list[Any]) -> bool:
    """Tell whether a subnet's route table, its own or else the main one, has a way out."""
    own = [t for t in tables if any(a.get("SubnetId") == subnet for a in t["Associations"])]
    main = [t for t in tables if any(a.get("Main") for a in t["Associations"])]
    return any(
        str(route.get("GatewayId", "")).startswith("igw-") and route.get("State") != "blackhole"
        for table in own or main
        for route in table["Routes"]
    )


def _open_within(group: Mapping[str, Any]) -> bool:
    return any(
        rule["IpProtocol"] == "-1"
        and any(p.get("GroupId") == group["GroupId"] for p in rule.get("UserIdGroupPairs", ()))
        for rule in group.get("IpPermissions", ())
    )


def _present(aws: Aws, subnets: tuple[str, ...]) -> set[str]:
    try:
        told = aws.call("ec2", "describe_subnets", SubnetIds=list(subnets))
    except AwsRefused as refused:
        # AWS refuses the whole question if one of them is not there.
        if refused.code != "InvalidSubnetID.NotFound":
            raise
        return set()
    return {str(s["SubnetId"]) for s in told["Subnets"]}
