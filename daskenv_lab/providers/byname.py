"""From a recorded name to a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskenv_lab import config, registry
from daskenv_lab.errors import UnknownNameError, did_you_mean
from daskenv_lab.providers import provider_for

if TYPE_CHECKING:
    from daskenv_lab.providers.connection import Connection


def connect_by_name(name: str, *, timeout: float | None = None) -> Connection:
    """Connect to the cluster that a name stands for.

    Raises
    ------
    UnknownNameError
        No cluster has the name; the nearest is named.
    ClusterGone
        It does not run any more.
    """
    record = registry.read(name)
    if record is None or record.ref is None:
        raise UnknownNameError(
            f"no cluster is named {name!r}; {did_you_mean(name, registry.names())} "
            "(start one with `daskenv up`)"
        )
    limit = config.seconds("timeouts.connect") if timeout is None else timeout
    return provider_for(record.environment).connect(record.ref, timeout=limit)
