"""Flows: run them on a running cluster, and tell what happened."""

from daskenv_lab.flows.batching import map  # noqa: A004 - as `task.map`
from daskenv_lab.flows.executor import DaskExecutor
from daskenv_lab.flows.flow_run import run

__all__ = ["DaskExecutor", "map", "run"]
