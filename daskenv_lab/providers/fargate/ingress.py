"""From where a scheduler may be reached: the caller's address, and the rules of our group."""

from __future__ import annotations

import ipaddress
import re
import socket
import urllib.request
import warnings
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from daskenv_lab import config
from daskenv_lab.bounded import in_background
from daskenv_lab.errors import EnvironmentValueError, ProviderError, ProviderUnreachable
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused
from daskenv_lab.providers.fargate.network import default_vpc
from daskenv_lab.providers.fargate.resource import is_shared
from daskenv_lab.providers.fargate.tags import from_list

if TYPE_CHECKING:
    from collections.abc import Callable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = (8786, 8787)
"""Of the scheduler, and of its dashboard; all from the first to the last are opened."""

_MARK = "daskenv "
"""How the descriptions of our rules begin."""
_FORBIDDEN = re.compile(r"[^a-zA-Z0-9. _\-:/()#,@\[\]+=;{}!$*]")
_LONGEST = 255
_WIDEST = {4: 8, 6: 32}
"""Prefixes shorter than these warn."""
_LIMIT = 10.0
_LONGEST_ANSWER = 100


class OpenToTheWorldWarning(UserWarning):
    """A scheduler can be reached from everywhere, or from a large part of the internet."""


def caller_cidr(given: str | None, *, aws: Aws, private: bool, vpc: str | None = None) -> str:
    """Decide from where a scheduler may be reached.

    Parameters
    ----------
    given : str, optional
        An address or a CIDR, IPv4 or IPv6; anything larger than a /8 (IPv6: a /32) warns.
    aws : Aws
        The account; in a rehearsal the caller is this machine.
    private : bool
        Whether the tasks have private addresses only. The caller's address is then the one with
        which this machine would go to the VPC.
    vpc : str, optional
        The VPC, by default the default one.

    Returns
    -------
    str
        A CIDR.

    Raises
    ------
    EnvironmentValueError
        `given` is neither an address nor a CIDR.
    ProviderUnreachable
        The address cannot be found.

    Warns
    -----
    OpenToTheWorldWarning

    Examples
    --------
    >>> caller_cidr("192.0.2.7", aws=Aws(region="eu-west-1"), private=False)
    '192.0.2.7/32'
    """
    if given is not None:
        return _warned(network(given))
    if aws.rehearsal:
        return "127.0.0.1/32"
    if private:
        return _address_towards(aws, vpc or default_vpc(aws))
    return _address_outside()


def allow(aws: Aws, group: str, cidr: str, *, who: str, port: int = PORTS[0]) -> None:
    """Let a CIDR reach the schedulers in a group; nothing happens if it may already.

    Parameters
    ----------
    aws, group
        The account, and the id of the shared security group.
    cidr : str
        As `caller_cidr` gives it.
    who : str
        For the rule's description; what AWS takes in none is replaced by ``_``.
    port : int
        The scheduler's, where it is none of the usual two; those are always opened.

    Raises
    ------
    AuthenticationFailed, ProviderUnreachable, AwsRefused
    """
    usual = PORTS[0] <= port <= PORTS[1]
    for ports in (PORTS,) if usual else (PORTS, (port, port)):
        _authorize(aws, group, _Rule(cidr=cidr, who=who, ports=ports))


def _authorize(aws: Aws, group: str, rule: _Rule) -> None:
    permissions = [rule.permission()]
    try:
        aws.call(
            "ec2", "authorize_security_group_ingress", GroupId=group, IpPermissions=permissions
        )
    except AwsRefused as refused:
        if refused.code == "RulesPerSecurityGroupLimitExceeded":
            raise ProviderError(
                f"the security group {group} takes no rule for {rule.cidr}, it has as many as AWS "
                "allows; remove what nobody holds with `daskenv reap`"
            ) from refused
        if refused.code != "InvalidPermission.Duplicate":
            raise


def withdraw(aws: Aws, group: str, *, wanted: Callable[[], set[str]]) -> list[str]:
    """Take back the rules that no running cluster wants.

    A cluster that starts must first run its scheduler, with the CIDR in its tags, and then
    `allow`. Here the rules are read first and `wanted` is called afterwards, so whoever made a
    rule that is seen is seen as well. Somebody may have found the old rule in place just before
    it went: so `wanted` is called once more at the end, and what it names now is put back.

    Parameters
    ----------
    aws, group
        The account, and the id of a security group; one without our tags is left alone.
    wanted : callable
        Gives the CIDRs that running clusters name in their tags.

    Returns
    -------
    list of str
        The CIDRs that may not reach schedulers any more.

    Raises
    ------
    AuthenticationFailed, ProviderUnreachable, AwsRefused
    """
    found = aws.call("ec2", "describe_security_groups", GroupIds=[group])["SecurityGroups"][0]
    if not is_shared(from_list(found.get("Tags", ()))):
        return []
    rules = [rule for permission in found["IpPermissions"] for rule in _ours(permission)]
    if not rules:
        return []
    keep = wanted()
    revoked = [rule for rule in rules if rule.cidr not in keep and _revoke(aws, group, rule)]
    keep = wanted() if revoked else set()
    for rule in revoked:
        if rule.cidr in keep:
            _authorize(aws, group, rule)
    return [rule.cidr for rule in revoked if rule.cidr not in keep]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """One of our rules in a group."""

    cidr: str
    who: str
    ports: tuple[int, int]

    def permission(self) -> dict[str, Any]:
        """Write it as AWS takes it."""
        described = {"Description": _FORBIDDEN.sub("_", f"{_MARK}{self.who}")[:_LONGEST]}
        ranges = (
            {"IpRanges": [{"CidrIp": self.cidr, **described}]}
            if ipaddress.ip_network(self.cidr).version == 4
            else {"Ipv6Ranges": [{"CidrIpv6": self.cidr, **described}]}
        )
        first, last = self.ports
        return {"IpProtocol": "tcp", "FromPort": first, "ToPort": last, **ranges}


def _ours(permission: dict[str, Any]) -> list[_Rule]:
    ranges = [(r["CidrIp"], r.get("Description", "")) for r in permission.get("IpRanges", ())]
    ranges += [(r["CidrIpv6"], r.get("Description", "")) for r in permission.get("Ipv6Ranges", ())]
    return [
        _Rule(
            cidr=cidr,
            who=described.removeprefix(_MARK),
            ports=(permission["FromPort"], permission["ToPort"]),
        )
        for cidr, described in ranges
        if described.startswith(_MARK)
    ]


def _revoke(aws: Aws, group: str, rule: _Rule) -> bool:
    try:
        aws.call(
            "ec2",
            "revoke_security_group_ingress",
            GroupId=group,
            IpPermissions=[rule.permission()],
        )
    except AwsRefused as refused:
        # Another process was faster.
        if refused.code != "InvalidPermission.NotFound":
            raise
        return False
    return True


def network(given: Any) -> Network:
    """Read what a user gave as an address or a CIDR.

    Raises
    ------
    EnvironmentValueError
        It is neither.

    Examples
    --------
    >>> network("192.0.2.7")
    IPv4Network('192.0.2.7/32')
    """
    try:
        return ipaddress.ip_network(str(given).strip(), strict=False)
    except ValueError as error:
        raise EnvironmentValueError(
            f"allow_from={given!r} is neither an address nor a CIDR; write it as 192.0.2.7 or "
            "192.0.2.0/24"
        ) from error


def _warned(asked: Network) -> str:
    if asked.prefixlen == 0:
        _warn(f"{asked} lets the whole internet try to connect to the scheduler")
    elif asked.prefixlen < _WIDEST[asked.version]:
        _warn(f"{asked} lets a large part of the internet try to connect to the scheduler")
    return str(asked)


def _warn(what: str) -> None:
    warnings.warn(
        f"{what}; only its TLS certificate keeps strangers out, so give the address that you "
        "come from with --allow-from",
        OpenToTheWorldWarning,
        stacklevel=4,
    )


def _address_towards(aws: Aws, vpc: str) -> str:
    told = aws.call("ec2", "describe_vpcs", VpcIds=[vpc])["Vpcs"][0]["CidrBlock"]
    inside = ipaddress.ip_network(told)
    try:
        # Connecting a datagram socket sends nothing; it only asks the system for the way.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect((str(inside.network_address + 2), 9))
            address = str(way.getsockname()[0])
    except OSError as error:
        raise ProviderUnreachable(
            f"this machine has no way to the VPC {vpc}, {inside} ({error}); connect the networks, "
            "or give the address that it sees with --allow-from"
        ) from error
    return f"{address}/32"


def _address_outside() -> str:
    service = str(config.get("fargate.address-service"))
    try:
        if urlsplit(service).scheme not in ("http", "https"):
            raise ValueError("it is no web address")
        told = in_background(lambda: _fetch(service)).result(_LIMIT)
        return str(ipaddress.ip_network(ipaddress.ip_address(told)))
    except (OSError, ValueError, HTTPException) as error:
        raise ProviderUnreachable(
            f"the address from which this machine reaches the internet cannot be found: {service} "
            f"did not tell it ({error or 'time ran out'}); give it with --allow-from, or another "
            "service in daskenv.fargate.address-service"
        ) from error


def _fetch(service: str) -> str:
    with urllib.request.urlopen(service, timeout=_LIMIT) as answer:  # noqa: S310 - checked above
        return str(answer.read(_LONGEST_ANSWER).decode("ascii", "replace").strip())
