"""From a scheduler's task to a connection: its address, its TLS material, its port."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from daskenv_lab import config
from daskenv_lab.errors import ClusterGone, ProviderUnreachable
from daskenv_lab.providers.connection import Connection
from daskenv_lab.providers.credentials import security_from
from daskenv_lab.providers.fargate import vault
from daskenv_lab.providers.fargate.tls import Tls

if TYPE_CHECKING:
    from daskenv_lab.bounded import Deadline
    from daskenv_lab.cluster import ClusterRef
    from daskenv_lab.environments import DaskCloudProviderEnvironment
    from daskenv_lab.providers.fargate.aws import Aws
    from daskenv_lab.providers.fargate.fleet import Task
    from daskenv_lab.providers.fargate.tags import Identity

_VARIABLES = {
    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": "certificate",
    "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY": "key",
}
_ONE_TRY = 3.0
_PAUSE = 0.1


def reach(
    environment: DaskCloudProviderEnvironment,
    aws: Aws,
    ref: ClusterRef,
    scheduler: Task,
    limit: Deadline,
) -> Connection:
    """Connect to the scheduler of a task that has an address.

    Raises
    ------
    ClusterGone
        Nothing answers within the limit, or its TLS material is gone.
    ProviderUnreachable
        It has no public address.
    """
    identity = scheduler.identity
    assert identity is not None  # noqa: S101 - it was found by its tags
    host = public_address(aws, scheduler) if identity.public else str(scheduler.private_ip)
    _wait_until_it_listens(host, int(identity.port), limit)
    connection = Connection(
        ref,
        f"{identity.protocol}://{host}:{identity.port}",
        security=security_of(environment, aws, scheduler, identity),
        dashboard_link=f"http://{host}:8787/status",
        timeout=max(limit.left, 1.0),
        client_kwargs=config.resolve_secrets(dict(environment.executor_kwargs)),
    )
    # What was left for the first connection is too little to ask a busy scheduler later, or to
    # find it again after the network was away; distributed takes one limit for all three.
    usual = config.seconds("timeouts.connect")
    connection.client.rpc.timeout = connection.client._timeout = usual
    return connection


def public_address(aws: Aws, scheduler: Task) -> str:
    """Look up the public address of a task's network interface.

    Raises
    ------
    ProviderUnreachable
        It has none.
    """
    told = aws.call("ec2", "describe_network_interfaces", NetworkInterfaceIds=[scheduler.interface])
    address = told["NetworkInterfaces"][0].get("Association", {}).get("PublicIp")
    if not address:
        raise ProviderUnreachable(
            f"the scheduler's network interface {scheduler.interface} has no public address; use "
            "subnets with a route to an internet gateway, or fargate_use_private_ip=True"
        )
    return str(address)


def security_of(
    environment: DaskCloudProviderEnvironment, aws: Aws, scheduler: Task, identity: Identity
) -> Any:
    """Give the material from the secret, from the open, or from the user."""
    if identity.secret:
        content = vault.fetch(aws, identity.secret)
        return Tls.from_dict(content).security() if "key" in content else None
    found = {part: scheduler.env_vars.get(name) for name, part in _VARIABLES.items()}
    if all(found.values()):
        return Tls.from_dict({part: str(value) for part, value in found.items()}).security()
    return security_from(environment.security)


def _wait_until_it_listens(host: str, port: int, limit: Deadline) -> None:
    """Knock until somebody opens: a client of Dask's would wait longer between two tries."""
    while True:
        try:
            one_try = max(min(limit.left, _ONE_TRY), _PAUSE)
            socket.create_connection((host, port), timeout=one_try).close()
        except OSError as error:
            if limit.passed:
                raise ClusterGone(
                    f"nothing answers at {host}:{port} within {limit.seconds:g} s ({error}); look "
                    "with `daskenv doctor fargate`"
                ) from error
            limit.pause(_PAUSE)
        else:
            return
