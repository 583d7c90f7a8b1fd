"""The extension's addresses, all below ``<base_url>daskenv/``."""

from __future__ import annotations

import re
from typing import Any

from daskenv_lab.server.clusters import (
    AdaptHandler,
    ClusterHandler,
    ClustersHandler,
    OpenHandler,
    ScaleHandler,
    StopHandler,
    TicketHandler,
)
from daskenv_lab.server.proxy import Fetching
from daskenv_lab.server.ticket import Tickets
from daskenv_lab.server.upstream import Upstreams
from daskenv_lab.server.websocket import DashboardHandler


def routes(base_url: str) -> list[tuple[Any, ...]]:
    """Give what Jupyter Server's `add_handlers` takes; all share one key and one memory.

    Examples
    --------
    >>> routes("/user/ada/")[0][0]
    '/user/ada/daskenv/api/clusters'
    """
    ours = re.escape(f"{base_url.rstrip('/')}/daskenv/")
    shared = {"tickets": Tickets(), "upstreams": Upstreams()}
    name = "([^/]+)"
    return [
        (f"{ours}api/clusters", ClustersHandler),
        (f"{ours}api/clusters/{name}", ClusterHandler),
        (f"{ours}api/clusters/{name}/scale", ScaleHandler),
        (f"{ours}api/clusters/{name}/adapt", AdaptHandler),
        (f"{ours}api/clusters/{name}/stop", StopHandler),
        (f"{ours}api/clusters/{name}/dashboard", TicketHandler, shared),
        (f"{ours}open/{name}/{name}", OpenHandler, shared),
        (f"{ours}dashboard/(.*)", DashboardHandler, {**shared, "fetching": Fetching()}),
    ]
