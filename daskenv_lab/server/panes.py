"""The pages of a Dask dashboard, by words that people type."""

from __future__ import annotations

from daskenv_lab.errors import UnknownNameError, did_you_mean

PANES = {
    "status": "status",
    "task-stream": "individual-task-stream",
    "progress": "individual-progress",
    "workers-memory": "individual-workers-memory",
    "cluster-memory": "individual-cluster-memory",
    "cpu": "individual-cpu",
    "processing": "individual-nprocessing",
    "occupancy": "individual-occupancy",
    "graph": "individual-graph",
    "groups": "individual-groups",
    "group-progress": "individual-group-progress",
    "memory-by-key": "individual-memory-by-key",
    "compute-time-per-key": "individual-compute-time-per-key",
    "aggregate-time-per-action": "individual-aggregate-time-per-action",
    "fine-performance-metrics": "individual-fine-performance-metrics",
    "profile": "individual-profile",
    "profile-server": "individual-profile-server",
    "exceptions": "individual-exceptions",
    "bandwidth-types": "individual-bandwidth-types",
    "bandwidth-workers": "individual-bandwidth-workers",
    "contention": "individual-contention",
    "scheduler-system": "individual-scheduler-system",
    "workers-table": "individual-workers",
    "workers-transfer-bytes": "individual-workers-transfer-bytes",
    "workers-network": "individual-workers-network",
    "workers-disk": "individual-workers-disk",
    "workers-cpu-timeseries": "individual-workers-cpu-timeseries",
    "workers-disk-timeseries": "individual-workers-disk-timeseries",
    "workers-memory-timeseries": "individual-workers-memory-timeseries",
    "workers-network-timeseries": "individual-workers-network-timeseries",
    "gpu-memory": "individual-gpu-memory",
    "gpu-utilization": "individual-gpu-utilization",
    "rmm-memory": "individual-rmm-memory",
    "workers": "workers",
    "tasks": "tasks",
    "system": "system",
    "hardware": "hardware",
    "shuffle": "shuffle",
    "stealing": "stealing",
    "events": "events",
    "counters": "counters",
    "gpu": "gpu",
}
"""What stands behind each word, below the dashboard's address: single plots, and whole pages.

The pages are the keys of ``distributed.dashboard.scheduler.applications``.
"""


def word_of(pane: str) -> str:
    """Check a word, or give that for one of Dask's own names.

    Raises
    ------
    UnknownNameError
        There is no such pane; the nearest is named.

    Examples
    --------
    >>> word_of("cpu"), word_of("individual-cpu")
    ('cpu', 'cpu')
    """
    known = {**{page: word for word, page in PANES.items()}, **{word: word for word in PANES}}
    if pane not in known:
        raise UnknownNameError(f"the dashboard has no pane {pane!r}; {did_you_mean(pane, PANES)}")
    return known[pane]


def page_of(pane: str) -> str:
    """Give the page that a word stands for.

    Raises
    ------
    UnknownNameError
        There is no such pane; the nearest is named.

    Examples
    --------
    >>> page_of("task-stream")
    'individual-task-stream'
    """
    return PANES[word_of(pane)]


def address_of(link: str, pane: str) -> str:
    """Give a pane's address, from the dashboard's own.

    Examples
    --------
    >>> address_of("http://127.0.0.1:8787/status", "cpu")
    'http://127.0.0.1:8787/individual-cpu'
    """
    return f"{root_of(link)}/{page_of(pane)}"


def root_of(link: str) -> str:
    """Give what stands before the pages of a dashboard.

    Examples
    --------
    >>> root_of("https://gateway.example.org/clusters/8f3e/status")
    'https://gateway.example.org/clusters/8f3e'
    """
    return link.rstrip("/").removesuffix("/status")
