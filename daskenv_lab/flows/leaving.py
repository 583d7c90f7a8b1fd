"""The end of a flow run on a worker: its rooms are closed, and the API is told.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from typing import TYPE_CHECKING, Any

import cloudpickle

from daskenv_lab.flows.ingraph import ROOMS
from daskenv_lab.flows.reporters import hurry_on, pending_on, told_until_on

if TYPE_CHECKING:
    from daskenv_lab.flows.room import Room

EVENTS_OUT = 3.0
"""Seconds that a worker waits, at the end of a flow run, for more of its events to go out."""

LAST_RECORDED = 10.0
"""The same of a worker that is to end, while the API is sent no more than it has room for."""

LAST_OUT = 60.0
"""Seconds for which it does so at most, before it sends all that is left at once."""


async def leave_rooms(dask_worker: Any, run_id: str, *, last: bool = False) -> float:
    """Close a flow run's rooms on this worker, once what they tell is out.

    The API may be told later, unless the client carries it there and may be about to leave, or
    the worker is to end: this flow run is its `last`.

    Returns
    -------
    float
        The time, in epoch seconds, up to which the API has been told all; infinite if it has been
        or will be told all by this worker.
    """
    rooms: dict[str, Room] = dask_worker.__dict__.get(ROOMS, {})
    leaving = [room for room in rooms.values() if room.root == run_id]
    for room in leaving:
        room.tell_all(dask_worker)
    hurry_on(dask_worker)
    if last:
        await _events_out(dask_worker, LAST_RECORDED, LAST_OUT)
        hurry_on(dask_worker, last=True)
    if last or any(room.route["relayed"] for room in leaving):
        await _events_out(dask_worker, EVENTS_OUT)
    for room in leaving:
        if not room.busy:
            rooms.pop(room.room_id, None)
            # A call that begins may hold the lock, and need the loop.
            await asyncio.to_thread(room.close)
    return told_until_on(dask_worker) if last and pending_on(dask_worker) else math.inf


async def _events_out(worker: Any, patience: float, limit: float = math.inf) -> None:
    """Wait until all is out, or for so many seconds none more has gone, or for `limit` seconds."""
    began = progress = time.monotonic()
    least = pending_on(worker)
    while (pending := pending_on(worker)) and (now := time.monotonic()) - began < limit:
        if pending < least:
            least, progress = pending, now
        elif now - progress >= patience:
            return
        await asyncio.sleep(0.02)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
