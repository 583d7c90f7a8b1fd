"""Follow the load of one cluster: ``python -m daskenv_lab.providers.fargate.adaptive_holder``.

What to follow comes as JSON on the standard input. The process ends when the lease is another's,
when nobody wants the cluster to adapt any more, and when the cluster is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskenv_lab import config
from daskenv_lab.background import Background, end_on_signal, write_record
from daskenv_lab.bounded import Deadline
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.environments import DaskCloudProviderEnvironment
from daskenv_lab.environments.codec import decode
from daskenv_lab.errors import ClusterGone, ProviderError
from daskenv_lab.providers.fargate import inscheduler, scaling
from daskenv_lab.providers.fargate.account import account
from daskenv_lab.providers.fargate.adaptive import (
    RECORD,
    Lease,
    erase,
    lease_on,
    scheduler_of,
    write,
)
from daskenv_lab.providers.fargate.fleet import Order
from daskenv_lab.providers.fargate.provider import FargateProvider

if TYPE_CHECKING:
    from daskenv_lab.providers.connection import Connection

_log = logging.getLogger("daskenv_lab")
# Looks that agree before workers are stopped, as in Dask's own adaptive scaling.
_AGREE = 3
_LEASE_LOOKS = 6
_SHORTEST_LEASE = 60.0
_CONNECT_LIMIT = 30.0


class Holder:
    """The one process that follows a cluster's load.

    Parameters
    ----------
    order : dict
        The environment's ``arguments``, the cluster's ``ref``, its ``ecs_cluster`` and ``owner``.
    end : threading.Event
        Set when the process is to end.
    """

    def __init__(self, order: dict[str, Any], end: threading.Event) -> None:
        self._environment = DaskCloudProviderEnvironment(**decode(order["arguments"]))
        self._ref = ClusterRef.from_dict(order["ref"])
        self._ecs_cluster = order["ecs_cluster"]
        self._owner = order["owner"]
        self._end = end
        self._token = secrets.token_hex(8)
        self._interval = config.seconds("fargate.adaptive-interval")
        self._lasts = max(_SHORTEST_LEASE, _LEASE_LOOKS * self._interval)
        self._renew_at = 0.0
        self._last = -1
        self._fewer = 0
        self._off = 0
        self._aws = account(self._environment)

    def run(self) -> None:
        """Take the lease, and follow the load until something ends it."""
        provider = FargateProvider(self._environment)
        while not self._end.is_set():
            try:
                self._outlast_another()
                with contextlib.closing(
                    provider.connect(self._ref, timeout=_CONNECT_LIMIT)
                ) as connection:
                    self._follow(connection)
                    return
            except ClusterGone as gone:
                _log.warning("%s", gone)
                return
            except ProviderError as error:
                _log.warning("%s; trying again", error)
                self._end.wait(self._interval)

    def _outlast_another(self) -> None:
        """Wait while another has the lease and does not renew it: that one may have died."""
        first = self._lease()
        while first and first.token != self._token and self._lease() == first:
            if self._end.wait(self._interval):
                return

    def _lease(self) -> Lease | None:
        scheduler = scheduler_of(self._aws, self._ecs_cluster, self._ref)
        return lease_on(scheduler) if scheduler else None

    def _follow(self, connection: Connection) -> None:
        # It does nothing with the cluster, which may end idle all the same.
        scaling.on_scheduler(connection, inscheduler.attend, client=connection.client.id)
        try:
            while self._leased(connection):
                bounds = connection.label().get("adaptive")
                if not bounds:
                    return
                self._step(connection, *bounds)
                if self._end.wait(self._interval):
                    return
        finally:
            self._give_back(connection)

    def _leased(self, connection: Connection) -> bool:
        """Take or renew the lease; False if another has it."""
        if time.time() < self._renew_at:
            return True
        with scaling.turn(connection, Deadline(_CONNECT_LIMIT)):
            scheduler = scheduler_of(self._aws, self._ecs_cluster, self._ref)
            if scheduler is None:
                return False
            held = lease_on(scheduler)
            if held and held.token != self._token:
                return False
            until = time.time() + self._lasts
            write(
                self._aws,
                scheduler,
                Lease(holder=self._owner, token=self._token, until=until),
            )
            connection.set_label(adaptive_holder=self._owner)
        self._renew_at = time.time() + self._lasts / 2
        return True

    def _step(self, connection: Connection, minimum: int, maximum: int) -> None:
        """Look at the load once; more workers at once, fewer when several looks agree.

        Workers that are lost, to Spot say, are asked for again when several looks miss them.
        """
        load, there = scaling.on_scheduler(connection, inscheduler.load)
        n = min(max(load, minimum), maximum)
        self._fewer = self._fewer + 1 if n < self._last else 0
        self._off = self._off + 1 if n == self._last != there else 0
        if (n == self._last and self._off < _AGREE) or 0 < self._fewer < _AGREE:
            return
        order = Order.from_dict(connection.label()["workers_order"])
        limit = Deadline(config.seconds("timeouts.workers"))
        scaling.scale(self._aws, connection, order, n, deadline=limit, progress=_log.info)
        self._last, self._fewer, self._off = n, 0, 0

    def _give_back(self, connection: Connection) -> None:
        with contextlib.suppress(ProviderError):
            scheduler = scheduler_of(self._aws, self._ecs_cluster, self._ref)
            held = lease_on(scheduler) if scheduler else None
            if scheduler and held and held.token == self._token:
                erase(self._aws, scheduler)
                connection.set_label(adaptive_holder=None)
            self._renew_at = 0.0


def main() -> None:
    """Follow the load of the cluster that the standard input names."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    end = threading.Event()
    end_on_signal(end)
    os.umask(0o077)
    own = Background.current()
    write_record(Path(sys.argv[1]) / RECORD, {"pid": own.pid, "started": own.started})
    Holder(json.loads(sys.stdin.buffer.read()), end).run()


if __name__ == "__main__":
    main()
