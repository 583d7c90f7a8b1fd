"""Security groups, evaluated as AWS does for a TCP connection that comes in."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from daskenv_lab.rehearsal.place import Reach

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def admits(
    groups: Iterable[Any],
    port: int,
    source: str,
    source_groups: Collection[str] = (),
) -> Reach:
    """Tell whether any rule of the groups lets a connection in.

    Parameters
    ----------
    groups : list of moto's SecurityGroup
        Those of the interface that is connected to.
    port : int
        The TCP port there.
    source : str
        The address or CIDR that connects; all of a CIDR must be let in.
    source_groups : collection of str
        The ids of the groups of the interface that connects, if both are in one VPC.
    """
    network = ipaddress.ip_network(source, strict=False)
    names = []
    for group in groups:
        names.append(group.id)
        for rule in group.ingress_rules:
            if _fits_port(rule, port) and _fits_source(rule, network, source_groups):
                told = f"{group.id}: {_told(rule)}"
                return Reach(allowed=True, rule=told, reason=f"{told} lets {source} in")
    return Reach(
        allowed=False,
        rule="",
        reason=f"no rule of {', '.join(names) or 'any group'} lets {source} in to port {port}",
    )


def _fits_port(rule: Any, port: int) -> bool:
    if rule.ip_protocol == "-1":
        return True
    return bool(rule.ip_protocol == "tcp" and rule.from_port <= port <= rule.to_port)


def _fits_source(rule: Any, network: Network, source_groups: Collection[str]) -> bool:
    if (rule.source_group or {}).get("GroupId") in source_groups:
        return True
    cidr = rule.cidr_ipv4 or rule.cidr_ipv6
    if not cidr:
        return False
    allowed = ipaddress.ip_network(cidr, strict=False)
    if isinstance(allowed, ipaddress.IPv4Network):
        return isinstance(network, ipaddress.IPv4Network) and network.subnet_of(allowed)
    return isinstance(network, ipaddress.IPv6Network) and network.subnet_of(allowed)


def _told(rule: Any) -> str:
    source = (
        (rule.source_group or {}).get("GroupId") or rule.cidr_ipv4 or rule.cidr_ipv6 or "nobody"
    )
    if rule.ip_protocol == "-1":
        return f"everything from {source}"
    ports = (
        f"{rule.from_port}"
        if rule.from_port == rule.to_port
        else f"{rule.from_port}-{rule.to_port}"
    )
    return f"{rule.ip_protocol} {ports} from {source}"
