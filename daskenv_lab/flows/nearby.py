"""Results that come straight from workers on this machine, and not through the scheduler.

A scheduler that passes them on reads and writes each once more: 100 MB take two to four times as
long. Dask's clients can ask workers themselves, and ask the scheduler where a worker does not
answer; but they do so only if they are told, since workers elsewhere may be out of reach, which
shows by a time-out alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import threading
import weakref
from typing import TYPE_CHECKING

from distributed.comm import get_address_host

if TYPE_CHECKING:
    import distributed

PATIENCE = 2.0
"""Seconds for scheduler and worker to answer."""

_log = logging.getLogger(__name__)
_asked: weakref.WeakSet[distributed.Client] = weakref.WeakSet()
_asking = threading.Lock()


def fetch_from_nearby(client: distributed.Client) -> None:
    """Let a client fetch results straight from the workers if these are on this machine.

    One of them is asked, once for each client; what the client was told about it before stays.
    """
    with _asking:
        if client in _asked or client.direct_to_workers is not None:
            return
        _asked.add(client)
    try:
        if client.sync(_is_beside, client, callback_timeout=PATIENCE):
            client.direct_to_workers = True
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the scheduler passes on
        _log.debug("results come through the scheduler: %s", error)


async def _is_beside(client: distributed.Client) -> bool:
    """Whether a worker of the client's scheduler answers on this machine's own loopback."""
    identity = await client.scheduler.identity(n_workers=1)
    for address in identity["workers"]:
        if address.startswith(("tcp://", "tls://")) and _is_loopback(get_address_host(address)):
            told = await client.rpc(address).identity()
            # A tunnel's scheduler names ports of another machine.
            return bool(told.get("scheduler") == identity["address"])
    return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
