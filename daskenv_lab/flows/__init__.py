"""Flows: run them on a running cluster, and tell what happened."""

from daskenv_lab.flows.lightly import import_jsonschema

import_jsonschema()  # before anything imports Prefect

from daskenv_lab.flows.batching import map  # noqa: A004, E402 - as `task.map`
from daskenv_lab.flows.executor import DaskExecutor  # noqa: E402
from daskenv_lab.flows.flow_run import run  # noqa: E402

__all__ = ["DaskExecutor", "map", "run"]
