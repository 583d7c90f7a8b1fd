"""Flows: run them on a running cluster, and tell what happened."""

from daskenv_lab.flows.executor import DaskExecutor

__all__ = ["DaskExecutor"]
