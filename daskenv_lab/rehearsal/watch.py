"""What goes on beside the calls: memory limits, and the end of a server that nobody uses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from daskenv_lab.rehearsal.process import sessions

if TYPE_CHECKING:
    from daskenv_lab.rehearsal.cloud import Cloud
    from daskenv_lab.rehearsal.task import Container, Task

_PERIOD = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")


async def watch_memory(cloud: Cloud) -> None:
    """Kill containers that use more memory than they may, until cancelled.

    What counts is the resident memory of all of a container's processes. Pages that they share
    count for each.
    """
    while True:
        await asyncio.sleep(_PERIOD)
        running = [t for t in list(cloud.tasks.values()) if t.status == "RUNNING"]
        if not running:
            continue
        members = sessions()
        for task in running:
            _check(task, members)


async def watch_use(cloud: Cloud, limit: float, end: asyncio.Event) -> None:
    """Set `end` when there was neither a task nor a call for so many seconds; 0 means never."""
    while limit:
        await asyncio.sleep(min(5.0, limit / 4))
        if cloud.busy:
            cloud.used = time.monotonic()
        elif time.monotonic() - cloud.used > limit:
            end.set()
            return


def _check(task: Task, members: dict[int, list[int]]) -> None:
    used = {
        c.name: sum(_resident(pid) for pid in members.get(c.pid, ()))
        for c in task.containers
        if c.pid
    }
    over_all = task.memory_limit is not None and sum(used.values()) > task.memory_limit
    largest = max(used, key=lambda name: used[name], default=None)
    for container in task.containers:
        own = container.definition.get("memory")
        over = own is not None and used.get(container.name, 0) > int(own) * 2**20
        if container.pid and (over or (over_all and container.name == largest)):
            _kill(container, members.get(container.pid, []))


def _kill(container: Container, pids: list[int]) -> None:
    container.reason = "OutOfMemoryError: Container killed due to memory usage"
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0
