"""From a recorded name to a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskenv_lab import config, registry
from daskenv_lab.errors import ClusterGone
from daskenv_lab.providers import provider_for

if TYPE_CHECKING:
    from daskenv_lab.providers.connection import Connection


def connect_by_name(name: str) -> Connection:
    """Connect to the cluster that a name stands for.

    Raises
    ------
    UnknownNameError
        No cluster has the name; the nearest is named.
    ClusterGone
        It does not run any more.
    """
    record = registry.known(name)
    if record.ref is None:
        raise ClusterGone(f"the cluster {name!r} was never started; start it with `daskenv up`")
    limit = config.seconds("timeouts.connect")
    return provider_for(record.environment).connect(record.ref, timeout=limit)
