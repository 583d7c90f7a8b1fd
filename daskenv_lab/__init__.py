"""Run Prefect flows from a notebook on a long-lived Dask cluster, and export what you tuned.

Nothing is imported here but names: each is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from daskenv_lab.advising import tune
    from daskenv_lab.cluster import ClusterInfo, ClusterRef, WorkerInfo
    from daskenv_lab.environments import (
        DaskCloudProviderEnvironment,
        DaskGatewayEnvironment,
        Environment,
        RemoteDaskEnvironment,
        Secret,
    )
    from daskenv_lab.errors import DaskEnvLabError
    from daskenv_lab.export import load
    from daskenv_lab.flows import DaskExecutor, map, run  # noqa: A004 - as `task.map`
    from daskenv_lab.inventory import detach, down, ls, reap
    from daskenv_lab.lifecycle import connect, up
    from daskenv_lab.notebook.panel import panel
    from daskenv_lab.report import FlowRunReport, TaskRunReport
    from daskenv_lab.session import Session, current

__version__ = "0.1.0"

_HOMES = {
    "ClusterInfo": "cluster",
    "ClusterRef": "cluster",
    "DaskCloudProviderEnvironment": "environments",
    "DaskEnvLabError": "errors",
    "DaskExecutor": "flows",
    "DaskGatewayEnvironment": "environments",
    "Environment": "environments",
    "FlowRunReport": "report",
    "RemoteDaskEnvironment": "environments",
    "Secret": "environments",
    "Session": "session",
    "TaskRunReport": "report",
    "WorkerInfo": "cluster",
    "connect": "lifecycle",
    "current": "session",
    "detach": "inventory",
    "down": "inventory",
    "load": "export",
    "ls": "inventory",
    "map": "flows",
    "panel": "notebook.panel",
    "reap": "inventory",
    "run": "flows",
    "tune": "advising",
    "up": "lifecycle",
}

__all__ = [
    "ClusterInfo",
    "ClusterRef",
    "DaskCloudProviderEnvironment",
    "DaskEnvLabError",
    "DaskExecutor",
    "DaskGatewayEnvironment",
    "Environment",
    "FlowRunReport",
    "RemoteDaskEnvironment",
    "Secret",
    "Session",
    "TaskRunReport",
    "WorkerInfo",
    "connect",
    "current",
    "detach",
    "down",
    "load",
    "load_ipython_extension",
    "ls",
    "map",
    "panel",
    "reap",
    "run",
    "tune",
    "unload_ipython_extension",
    "up",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Register ``%daskenv``; IPython calls this on ``%load_ext daskenv_lab``."""
    from daskenv_lab.notebook.magics import register

    register(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """Take ``%daskenv`` away again; IPython calls this on ``%unload_ext daskenv_lab``."""
    from daskenv_lab.notebook.magics import unregister

    unregister(ipython)
