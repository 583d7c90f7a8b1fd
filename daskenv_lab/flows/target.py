"""Where a flow runs: from a session, name, address, cluster or connection to a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from daskenv_lab import config
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.errors import ClusterGone, FlowError, WrongCluster
from daskenv_lab.providers.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping


class Reached(NamedTuple):
    """A connection, and whether it was opened here and must be closed here."""

    connection: Connection
    ours: bool


def reach(
    target: Any, *, security: Any = None, client_kwargs: Mapping[str, Any] | None = None
) -> Reached:
    """Connect to the cluster that `target` means, and to no other.

    Parameters
    ----------
    target : Session, Connection, str or cluster
        A session or connection is used as it is. A string with a colon is a scheduler's
        address, any other the name of a cluster of ours. A cluster object has a
        `scheduler_address`.
    security : distributed.Security, optional
        For an address.
    client_kwargs : mapping, optional
        Further arguments for the client, if one is opened.

    Raises
    ------
    ClusterGone
        The connection is closed, or nothing answers.
    UnknownNameError
        No cluster has that name.
    WrongCluster
        Another scheduler answers than the one of the cluster object.
    """
    target = getattr(target, "connection", target)
    if isinstance(target, Connection):
        if not target.open:
            raise ClusterGone(
                f"the connection to {target.address} is closed; connect again with `daskenv up`"
            )
        return Reached(target, ours=False)
    if isinstance(target, str) and ":" not in target:
        from daskenv_lab.providers.byname import connect_by_name

        return Reached(connect_by_name(target), ours=True)
    address = target if isinstance(target, str) else getattr(target, "scheduler_address", None)
    if not isinstance(address, str) or ":" not in address:
        raise FlowError(
            f"{target!r} is no running cluster; give a session, a cluster's name, a scheduler's "
            "address or a cluster object"
        )
    connection = Connection(
        ClusterRef(provider="remote", id=address),
        address,
        security=security or getattr(target, "security", None),
        timeout=config.seconds("timeouts.connect"),
        client_kwargs=client_kwargs,
    )
    try:
        _check(connection, target)
    except BaseException:
        connection.close()
        raise
    return Reached(connection, ours=True)


def _check(connection: Connection, target: Any) -> None:
    info = getattr(target, "scheduler_info", None)
    wanted = info.get("id") if isinstance(info, dict) else None
    found = connection.describe()["id"]
    if wanted and wanted != found:
        raise WrongCluster(
            f"at {connection.address} another scheduler answers ({found}) than that of the "
            f"cluster given ({wanted}); start the cluster again"
        )
