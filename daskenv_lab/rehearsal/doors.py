"""Public addresses: a door at each port on which a task listens and that its groups open.

A door forwards to the task's private address. It exists while the rules let this machine in, and
asks them again at each connection. Private addresses cannot be guarded in this way: whoever is
on this machine counts as being inside the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daskenv_lab.rehearsal.cloud import Cloud
    from daskenv_lab.rehearsal.task import Task

log = logging.getLogger(__name__)

HERE = "127.0.0.1/32"
"""Where the connections of this machine's processes come from."""

# Looking costs some milliseconds of a core: often while a task is young and somebody waits for it.
_BRISK, _CALM = 0.1, 0.3
_YOUNG = 60.0
_CHUNK = 256 * 1024
_LISTENS = "0A"

Door = tuple[str, int]


class Doors:
    """All doors of the account."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._open: dict[Door, asyncio.Server] = {}

    async def keep(self) -> None:
        """Open and shut doors as tasks and rules come and go, until cancelled."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(_BRISK if self._waited_for() else _CALM)
        finally:
            for server in self._open.values():
                server.close()

    async def _look(self) -> None:
        tasks = [t for t in list(self._cloud.tasks.values()) if t.public and t.status == "RUNNING"]
        wanted: dict[Door, Task] = {}
        ports = listening() if tasks else {}
        for task in tasks:
            if task.private and task.public_address:
                for port in ports.get(task.private, ()):
                    if self._cloud.reach(HERE, task, port).allowed:
                        wanted[task.public_address, port] = task
        for door in [d for d in self._open if d not in wanted]:
            self._open.pop(door).close()
        for door, task in wanted.items():
            if door not in self._open:
                await self._make(door, task)

    def _waited_for(self) -> bool:
        young = time.time() - _YOUNG
        return any(
            t.public and not t.ended and t.times["createdAt"] > young
            for t in list(self._cloud.tasks.values())
        )

    async def _make(self, door: Door, task: Task) -> None:
        try:
            self._open[door] = await asyncio.start_server(
                partial(self._enter, task, door[1]), *door, limit=_CHUNK
            )
        except OSError as error:
            log.warning("no door at %s:%s: %s", *door, error)

    async def _enter(
        self, task: Task, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = writer.get_extra_info("peername")
        private = task.private
        if not peer or not private or not self._cloud.reach(peer[0], task, port).allowed:
            writer.transport.abort()
            return
        try:
            there = await asyncio.open_connection(private, port, limit=_CHUNK)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy until the end of one side, and pass the end on."""
    try:
        while chunk := await source.read(_CHUNK):
            sink.write(chunk)
            await sink.drain()
    except OSError:
        sink.transport.abort()
    finally:
        with contextlib.suppress(OSError, RuntimeError):
            if sink.can_write_eof() and not sink.is_closing():
                sink.write_eof()
            # The other direction may still have something to say, but not for long.
            asyncio.get_running_loop().call_later(1.0, sink.close)


def listening() -> dict[str, set[int]]:
    """List the TCP ports on which this machine listens, by IPv4 address."""
    found: dict[str, set[int]] = {}
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        if words[3] == _LISTENS:
            address, port = words[1].split(":")
            # The kernel writes the four bytes in the machine's order.
            number = int.from_bytes(bytes.fromhex(address), "little")
            found.setdefault(str(ipaddress.IPv4Address(number)), set()).add(int(port, 16))
    return found
