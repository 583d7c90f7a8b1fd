"""Functions that run on a scheduler, which need not have daskenv_lab installed.

The module is pickled by value, so that nothing here may refer to another module of ours.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import cloudpickle

LABEL = "daskenv"
"""The key of the scheduler's metadata under which a cluster's name and owner are kept."""

STOP = "daskenv-stop"
"""The topic of the scheduler's events on which flow runs are asked to end."""


def describe(dask_scheduler: Any, asker: str) -> dict[str, Any]:
    """Tell all that `ClusterInfo` holds, in plain types, in one round trip.

    `asker` is the id of the client that asks, which is not counted among the clients.
    """
    workers = [
        {
            "address": ws.address,
            "name": str(ws.name),
            "nthreads": ws.nthreads,
            "memory_limit": ws.memory_limit or 0,
            "memory": ws.metrics.get("memory", 0),
            "cpu": ws.metrics.get("cpu", 0.0),
            "tasks": len(ws.processing),
            "stored": ws.nbytes,
        }
        for ws in dask_scheduler.workers.values()
    ]
    states: dict[str, int] = {}
    for group in dask_scheduler.task_groups.values():
        for state, number in group.states.items():
            if number and state != "forgotten":
                states[state] = states.get(state, 0) + number
    label = dict(dask_scheduler.task_metadata.get("daskenv") or {})
    gateway = dask_scheduler.services.get("gateway")
    adapts = gateway is not None and gateway.adapt_task is not None
    adaptive = [gateway.minimum, gateway.maximum] if adapts else label.get("adaptive")
    target = gateway.count if adapts else None
    if adaptive and not adapts:
        target = max(dask_scheduler.adaptive_target(), adaptive[0] or 0)
        target = target if adaptive[1] is None else min(target, adaptive[1])
    watch = getattr(dask_scheduler, "daskenv_watch", None) or {}
    ends = max(watch.get("used", 0.0) + watch.get("timeout", 0.0), watch.get("kept_until", 0.0))
    clients = [c for c in dask_scheduler.clients if c not in ("fire-and-forget", asker)]
    return {
        "id": dask_scheduler.id,
        "label": label,
        "started": dask_scheduler.time_started,
        "idle_since": getattr(dask_scheduler, "idle_since", None),
        "busy": any(states.get(s) for s in ("processing", "waiting", "queued", "no-worker")),
        "requested": None if gateway is None or adapts else gateway.count,
        "adaptive": adaptive,
        "target": target,
        "stops_in": max(ends - time.monotonic(), 0.0) if watch.get("timeout") else None,
        "clients": len(clients),
        "tasks": states,
        "workers": workers,
    }


cloudpickle.register_pickle_by_value(sys.modules[__name__])
