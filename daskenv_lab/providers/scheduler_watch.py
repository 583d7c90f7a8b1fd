"""A preload for the embedded Gateway's schedulers: when a cluster ends by itself.

Gateway's own check for idleness counts tasks alone, so that a notebook that thinks for long would
lose its cluster; here connected clients count too. A scheduler whose server was killed and not
started again ends as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from daskenv_lab import config

logger = logging.getLogger("distributed.scheduler")


def dask_setup(scheduler: Any) -> None:
    """Begin to watch; Dask calls this after Gateway's own preload, which was named before."""
    service = scheduler.services["gateway"]
    if service.check_idle_task is not None:
        service.check_idle_task.cancel()
    service.check_idle_task = asyncio.ensure_future(_watch(scheduler, service))


async def _watch(scheduler: Any, service: Any) -> None:
    lonely_after = config.seconds("local.orphan-timeout")
    pause = min(
        15.0, lonely_after / 4, *([service.idle_timeout / 4] if service.idle_timeout else [])
    )
    # A monotonic clock, which stands still while the machine sleeps.
    used = heard = time.monotonic()
    transitions = -1
    while True:
        await asyncio.sleep(pause)
        if _in_use(scheduler) or scheduler.transition_counter != transitions:
            used = time.monotonic()
        transitions = scheduler.transition_counter
        if service.idle_timeout and time.monotonic() - used > service.idle_timeout:
            logger.warning("Idle for %g seconds, ending", service.idle_timeout)
            with contextlib.suppress(OSError, HTTPClientError):
                await service.gateway.shutdown()
            used = time.monotonic()
        if await _server_answers(service.gateway.api_url):
            heard = time.monotonic()
        elif time.monotonic() - heard > lonely_after:
            logger.warning("No Gateway for %g seconds, ending", lonely_after)
            # In a task of its own: closing stops Gateway's service, which cancels this one.
            service.closing = asyncio.ensure_future(scheduler.close(reason="the Gateway is gone"))
            return


def _in_use(scheduler: Any) -> bool:
    clients = [c for c in scheduler.clients if c != "fire-and-forget"]
    working = any(ws.processing for ws in scheduler.workers.values())
    return bool(clients or working or scheduler.unrunnable)


async def _server_answers(api_url: str) -> bool:
    try:
        await AsyncHTTPClient().fetch(f"{api_url}/health", request_timeout=5)
    except (OSError, HTTPClientError):
        return False
    return True
