"""The reporters of a worker: one for each API that its task runs are told to.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import cloudpickle
from prefect.events.worker import emit_events_to_cloud
from prefect.logging.handlers import APILogWorker, set_api_log_sink
from prefect.settings import PREFECT_API_URL

from daskenv_lab.flows import emitting
from daskenv_lab.flows.names import versioned
from daskenv_lab.flows.reporting import HOLD, Reporter
from daskenv_lab.flows.sender import queued_by_prefect

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.events.schemas.events import Event

REPORTERS = versioned("daskenv_reporters")
"""The attribute of a Dask worker under which it keeps its reporters, by the API's address."""

MAKING = versioned("daskenv_reporters_making")
"""The attribute under which it keeps the lock for making one."""

REPORTERS_KEPT = 4
"""Reporters that a worker keeps; each API, and each kernel whose calls are relayed, has one."""


def reporter_of(
    worker: Any,
    hold: float,
    workers: int,
    knows: Callable[[str], bool],
    tell_client: Callable[[Event], object],
) -> Reporter | None:
    """Give this worker's reporter for the API of the current settings, made on first use.

    None where Prefect sends by itself: to no API, or to Prefect Cloud, which takes events by
    websocket.
    """
    url = PREFECT_API_URL.value()
    if not url or emit_events_to_cloud():
        return None
    reporters: dict[str, Reporter] = worker.__dict__.setdefault(REPORTERS, {})
    if url not in reporters:
        with worker.__dict__.setdefault(MAKING, threading.Lock()):
            if url not in reporters:
                while len(reporters) >= REPORTERS_KEPT:
                    reporters.pop(next(iter(reporters))).close()
                reporters[url] = Reporter(reporters, hold, workers, knows, tell_client)
                emitting.put_in_place()
                set_api_log_sink(lambda log: _take_log(reporters, log))
    reporter = reporters[url]
    reporter.install()
    return reporter


def _take_log(reporters: dict[str, Reporter], log: dict[str, Any]) -> None:
    reporter = reporters.get(str(PREFECT_API_URL.value()))
    if reporter is None:
        APILogWorker.instance().send(log)
    else:
        reporter.take_log(log)


def hurry_on(worker: Any, *, last: bool = False) -> None:
    """Let all that this worker has not told the API yet be sent now; all at once, if it ends."""
    for reporter in list(worker.__dict__.get(REPORTERS, {}).values()):
        reporter.hurry(last=last)


def pending_on(worker: Any) -> int:
    """Count what this worker has not told the API yet."""
    reporters: dict[str, Reporter] = worker.__dict__.get(REPORTERS, {})
    return sum(reporter.pending for reporter in reporters.values()) + queued_by_prefect()


def told_until_on(worker: Any) -> float:
    """Give the time, in epoch seconds, up to which this worker has told the API all; or now."""
    reporters: dict[str, Reporter] = worker.__dict__.get(REPORTERS, {})
    now = time.time() - (HOLD if queued_by_prefect() else 0)
    return min((reporter.told_until for reporter in reporters.values()), default=now)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
