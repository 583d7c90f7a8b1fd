"""Looks at the security groups: who may reach the scheduler, the workers, and the world."""

from __future__ import annotations

import ipaddress
import warnings
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import ProviderUnreachable
from daskenv_lab.providers.fargate import ingress
from daskenv_lab.providers.fargate.checks import Check, Finding, of_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from daskenv_lab.providers.fargate.checks import Case

Ports = tuple[int, int]
"""The first and the last."""

_HIGH = (1024, 65535)
"""Where workers listen: at ports that the system chooses."""

_HTTPS = (443, 443)
_EVERYWHERE = ("0.0.0.0/0", "::/0")


def admits(
    rules: Iterable[Mapping[str, Any]],
    ports: Ports,
    *,
    cidr: str = "",
    groups: Iterable[str] = (),
) -> str:
    """Name the rule that lets TCP through at all of the ports; empty if there is none.

    Parameters
    ----------
    rules : iterable of mapping
        A group's permissions, as EC2 describes them.
    ports : pair of int
        The first and the last.
    cidr : str
        All of it must be let through.
    groups : iterable of str
        Or any member of one of these groups.

    Examples
    --------
    >>> rule = {"IpProtocol": "tcp", "FromPort": 8786, "ToPort": 8787,
    ...         "IpRanges": [{"CidrIp": "192.0.2.0/24"}]}
    >>> admits([rule], (8786, 8786), cidr="192.0.2.7/32")
    'tcp 8786-8787 for 192.0.2.0/24'
    """
    for rule in rules:
        protocol, first, last = _told(rule)
        if protocol not in ("everything", "tcp") or not first <= ports[0] <= ports[1] <= last:
            continue
        words = protocol if protocol == "everything" else f"tcp {first}-{last}"
        for pair in rule.get("UserIdGroupPairs", ()):
            if pair.get("GroupId") in groups:
                return f"{words} for {pair['GroupId']}"
        for allowed in _ranges(rule):
            if cidr and _covers(allowed, cidr):
                return f"{words} for {allowed}"
    return ""


def rules_of(groups: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """List what groups let in."""
    return [rule for group in groups for rule in group.get("IpPermissions", ())]


def hidden_in(rules: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether a rule names a prefix list, which cannot be judged from here."""
    return any(rule.get("PrefixListIds") for rule in rules)


def _group(case: Case) -> Iterator[Finding]:
    groups = case.network.groups
    if not groups:
        told = "not looked at, as the shared group is not made yet"
        yield Finding(what="security group", result="skipped", told=told)
        return
    yield from _clients(case)
    yield _within(case)
    yield _outward(case)


def _clients(case: Case) -> Iterator[Finding]:
    """Judge whether the caller may reach the scheduler's ports."""
    what = "way in for clients"
    settings, place = case.wanted, case.network
    given = case.environment.provider_kwargs.get("allow_from")
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            cidr = ingress.caller_cidr(
                given, aws=case.account, private=settings.private, vpc=place.vpc
            )
    except ProviderUnreachable as error:
        # `up` asks the same, unless the user's own groups decide who may come in.
        yield of_error(what, error, "bad" if place.own_group else "warning")
        return
    for warning in heard:
        sentence, _, step = str(warning.message).partition("; ")
        yield Finding(what=what, result="warning", told=sentence, step=step)
    names, rules = _names(case), rules_of(place.groups)
    wanted = (settings.scheduler_port, settings.dashboard_port)
    shut = [port for port in wanted if not admits(rules, (port, port), cidr=cidr)]
    if not shut:
        yield Finding(what=what, result="good", told=f"{names} lets {cidr} in to {_ports(wanted)}")
        return
    opened = range(ingress.PORTS[0], ingress.PORTS[1] + 1)
    if (place.own_group or given is not None) and all(port in opened for port in shut):
        told = f"{cidr}, for which `up` opens {names}"
        yield Finding(what=what, result="good", told=told)
        return
    yield Finding(
        what=what,
        result="warning" if hidden_in(rules) else "bad",
        told=f"no rule of {names} lets {cidr} in to {_ports(shut)}"
        + (", unless one of its prefix lists does" if hidden_in(rules) else ""),
        step=opening(str(place.groups[0]["GroupId"]), shut, cidr),
    )


def opening(group: str, ports: Iterable[int], cidr: str) -> str:
    """Write the command that lets an address in."""
    told = sorted(ports)
    span = str(told[0]) if len(told) == 1 else f"{told[0]}-{told[-1]}"
    return (
        f"run `aws ec2 authorize-security-group-ingress --group-id {group} --protocol tcp "
        f"--port {span} --cidr {cidr}`"
    )


def _within(case: Case) -> Finding:
    """Judge whether scheduler and workers reach each other."""
    what = "traffic among tasks"
    place, rules = case.network, rules_of(case.network.groups)
    ids = [str(g["GroupId"]) for g in place.groups]
    port = case.wanted.scheduler_port

    def open_at(ports: Ports) -> bool:
        inside = [str(s["CidrBlock"]) for s in place.subnets]
        return bool(admits(rules, ports, groups=ids)) or all(
            admits(rules, ports, cidr=cidr) for cidr in inside
        )

    if open_at(_HIGH) and open_at((port, port)):
        return Finding(what=what, result="good", told=f"{_names(case)} is open within")
    told = (
        f"{_names(case)} does not let its members reach each other at all TCP ports from "
        f"{_HIGH[0]}: workers find neither the scheduler nor each other's data"
    )
    step = (
        f"run {case.command('bootstrap')}, which mends it"
        if place.own_group
        else "add a rule for all traffic whose source is the group itself"
    )
    return Finding(what=what, result="warning" if hidden_in(rules) else "bad", told=told, step=step)


def _outward(case: Case) -> Finding:
    """Judge whether tasks reach AWS, and each other, from inside."""
    what = "way out for tasks"
    groups = case.network.groups
    rules = [rule for group in groups for rule in group.get("IpPermissionsEgress", ())]
    names = _names(case)
    if any(_told(r)[0] == "everything" and _EVERYWHERE[0] in _ranges(r) for r in rules):
        return Finding(what=what, result="good", told=f"{names} lets everything out")
    if admits(rules, _HTTPS, cidr=_EVERYWHERE[0]):
        told = f"{names} lets HTTPS out to everywhere, and not everything"
        step = "see that tasks reach each other, and the data that they need"
        return Finding(what=what, result="warning", told=told, step=step)
    return Finding(
        what=what,
        result="warning" if rules else "bad",
        told=f"{names} lets {'little' if rules else 'nothing'} out: the image and AWS must be "
        "reached over HTTPS",
        step="add an outbound rule for all traffic, or for HTTPS to the VPC endpoints and all TCP "
        "within the group",
    )


def _names(case: Case) -> str:
    return " and ".join(str(g["GroupId"]) for g in case.network.groups)


def _ports(ports: Iterable[int]) -> str:
    return " and ".join(map(str, ports))


def _told(rule: Mapping[str, Any]) -> tuple[str, int, int]:
    """Give a rule's protocol and its ports."""
    protocol = str(rule.get("IpProtocol"))
    if protocol == "-1":
        return "everything", 0, 65535
    return protocol, int(rule.get("FromPort", 0)), int(rule.get("ToPort", 65535))


def _ranges(rule: Mapping[str, Any]) -> list[str]:
    found = [str(r["CidrIp"]) for r in rule.get("IpRanges", ())]
    return found + [str(r["CidrIpv6"]) for r in rule.get("Ipv6Ranges", ())]


def _covers(allowed: str, cidr: str) -> bool:
    outer = ipaddress.ip_network(allowed, strict=False)
    inner = ipaddress.ip_network(cidr, strict=False)
    if isinstance(outer, ipaddress.IPv4Network):
        return isinstance(inner, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, ipaddress.IPv6Network) and inner.subnet_of(outer)


GROUP = Check("security group", _group, ["place", "settings"])
