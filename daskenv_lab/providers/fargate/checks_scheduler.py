"""Goes the way to a running scheduler hop by hop, and names the one that fails."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

from daskenv_lab.bounded import Deadline
from daskenv_lab.errors import ClusterGone, ProviderError, ProviderUnreachable
from daskenv_lab.providers.fargate import adaptive, ingress, listing
from daskenv_lab.providers.fargate.aws import NotPermitted
from daskenv_lab.providers.fargate.checks import Check, Finding, of_error
from daskenv_lab.providers.fargate.checks_group import admits, opening, rules_of
from daskenv_lab.providers.fargate.reach import public_address, reach
from daskenv_lab.providers.fargate.reach import security_of as security_of
from daskenv_lab.providers.fargate.resource import NAME

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from daskenv_lab.cluster import ClusterRef
    from daskenv_lab.providers.fargate.checks import Case
    from daskenv_lab.providers.fargate.fleet import Task
    from daskenv_lab.providers.fargate.tags import Identity

_ONE_HOP = 5.0
_DASK = 10.0


class _EndsHere(Exception):
    """A hop failed; the next ones need it."""


def _hops(case: Case) -> Iterator[Finding]:
    assert case.ref is not None  # noqa: S101 - `doctor.examine` sees to it
    with contextlib.suppress(_EndsHere):
        scheduler = yield from _task(case, case.ref)
        identity = scheduler.identity
        assert identity is not None  # noqa: S101 - it was found by its tags
        host = yield from _address(case, scheduler, identity)
        yield from _let_in(case, scheduler, identity)
        yield from _port(host, int(identity.port))
        yield from _encryption(case, scheduler, identity, host)
        yield from _dask(case, case.ref, scheduler)


def _task(case: Case, ref: ClusterRef) -> Generator[Finding, None, Task]:
    what = "scheduler: task"
    cluster = str(case.given.get("cluster_arn", NAME))
    scheduler = adaptive.scheduler_of(case.account, cluster, ref)
    if scheduler is None:
        yield of_error(what, listing.ended(case.account, cluster, ref), "bad")
        raise _EndsHere
    told = f"{scheduler.id} is {scheduler.status}"
    if scheduler.status != "RUNNING":
        yield Finding(what=what, result="warning", told=told, step="wait a little, and look again")
        raise _EndsHere
    yield Finding(what=what, result="good", told=told)
    return scheduler


def _address(case: Case, scheduler: Task, identity: Identity) -> Generator[Finding, None, str]:
    what = "scheduler: address"
    if not identity.public:
        told = f"{scheduler.private_ip}, which is reached from inside the VPC only"
        yield Finding(what=what, result="good", told=told)
        return str(scheduler.private_ip)
    try:
        host = public_address(case.account, scheduler)
    except ProviderUnreachable as error:
        yield of_error(what, error, "bad")
        raise _EndsHere from error
    told = f"{host}, in the VPC {scheduler.private_ip}"
    yield Finding(what=what, result="good", told=told)
    return host


def _let_in(case: Case, scheduler: Task, identity: Identity) -> Iterator[Finding]:
    """Judge the rules of the groups that the task really has, for where we really come from."""
    what, aws = "scheduler: security group", case.account
    try:
        [interface] = aws.call(
            "ec2", "describe_network_interfaces", NetworkInterfaceIds=[scheduler.interface]
        )["NetworkInterfaces"]
        ids = [str(g["GroupId"]) for g in interface["Groups"]]
        groups = aws.call("ec2", "describe_security_groups", GroupIds=ids)["SecurityGroups"]
        cidr = ingress.caller_cidr(
            None, aws=aws, private=not identity.public, vpc=interface.get("VpcId")
        )
    except (NotPermitted, ProviderUnreachable) as error:
        yield of_error(what, error, "skipped")
        return
    port = int(identity.port)
    if rule := admits(rules_of(groups), (port, port), cidr=cidr):
        told = f"lets {cidr} in to port {port} ({rule})"
        yield Finding(what=what, result="good", told=told)
        return
    moved = f"; it was opened for {identity.allow}" if identity.allow else ""
    yield Finding(
        what=what,
        result="bad",
        told=f"no rule of {' and '.join(ids)} lets {cidr} in to port {port}{moved}",
        step=opening(ids[0], ingress.PORTS, cidr),
    )
    raise _EndsHere


def _port(host: str, port: int) -> Iterator[Finding]:
    what = "scheduler: port"
    try:
        socket.create_connection((host, port), timeout=_ONE_HOP).close()
    except ConnectionRefusedError as error:
        told = f"{host}:{port} is closed: the task runs, and its process does not listen there"
        step = "look at its log with `daskenv logs`, or take the cluster down with `daskenv down`"
        yield Finding(what=what, result="bad", told=told, step=step)
        raise _EndsHere from error
    except OSError as error:
        told = f"nothing comes back from {host}:{port} ({error}), although the group lets it in"
        step = "look at the subnet's route and network ACL, and at this machine's firewall and VPN"
        yield Finding(what=what, result="bad", told=told, step=step)
        raise _EndsHere from error
    yield Finding(what=what, result="good", told=f"{host}:{port} is open")


def _encryption(case: Case, scheduler: Task, identity: Identity, host: str) -> Iterator[Finding]:
    what = "scheduler: certificates"
    try:
        security = security_of(case.environment, case.account, scheduler, identity)
    except ClusterGone as error:
        yield of_error(what, error, "bad")
        raise _EndsHere from error
    context = None
    if identity.protocol == "tls" and security is not None:
        context = security.get_connection_args("client").get("ssl_context")
    refused = _greeted(host, int(identity.port), context)
    if refused is not None:
        yield Finding(what=what, result="bad", told=refused[0], step=refused[1])
        raise _EndsHere
    if identity.protocol == "tls":
        told = "the scheduler and this session accept each other's certificate"
        yield Finding(what=what, result="good", told=told)
        return
    told = "none: whoever reaches the port can run code on the cluster"
    step = "leave security=False out, for mutual TLS"
    yield Finding(what=what, result="warning", told=told, step=step)


def _greeted(host: str, port: int, context: Any) -> tuple[str, str] | None:
    """Wait for the first byte, which a scheduler sends to clients that it takes.

    Returns
    -------
    pair of str, or None
        What went wrong, and what to do.
    """
    fresh = "start the cluster again with `daskenv down` and `daskenv up`"
    try:
        with socket.create_connection((host, port), timeout=_ONE_HOP) as plain:
            way = plain if context is None else context.wrap_socket(plain)
            with way:
                if way.recv(1):
                    return None
        why = "closes the connection without a word: it wants other credentials"
    except ssl.SSLCertVerificationError as error:
        why = (
            f"shows another certificate than the one in the cluster's secret "
            f"({error.verify_message}): something else answers at its address"
        )
    except ssl.SSLError as error:
        refuses = "ALERT" in str(error.reason)
        why = (
            f"refuses this session's certificate ({error.reason})"
            if refuses
            else f"speaks no TLS ({error.reason})"
        )
    except TimeoutError:
        why = f"takes the connection, and says nothing within {_ONE_HOP:g} s: its process hangs"
    except OSError as error:
        why = f"breaks the connection ({error}): it wants other credentials"
    return f"the scheduler at {host}:{port} {why}", fresh


def _dask(case: Case, ref: ClusterRef, scheduler: Task) -> Iterator[Finding]:
    what = "scheduler: answer"
    try:
        connection = reach(case.environment, case.account, ref, scheduler, Deadline(_DASK))
        with contextlib.closing(connection):
            info = connection.info()
    except ProviderError as error:
        yield of_error(what, error, "bad")
        raise _EndsHere from error
    told = f"{info.n_workers} workers, {info.nthreads} threads, {info.clients} other clients"
    yield Finding(what=what, result="good", told=told)


SCHEDULER = Check("scheduler", _hops, ["caller"])
