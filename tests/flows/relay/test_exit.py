"""A process that runs a relayed flow and ends at once, as a script does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from distributed import LocalCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SCRIPT = """
import json, sys
from prefect import flow, task
from daskenv_lab.flows.flow_run import run_flow

@task
def double(x):
    return 2 * x

@flow
def doubles(n):
    return sum(double.map(list(range(n))).result())

report = run_flow(doubles, {"n": 150}, on=sys.argv[1], progress=False)
print(json.dumps([report.result, report.flow_run_id]), flush=True)
"""


def test_all_task_runs_are_recorded(api: str, recorded: Callable[..., list[Any]]) -> None:
    """What the process had kept back it tells the API before it is gone."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, cluster.scheduler_address],
            env={**os.environ, "DASK_DASKENV__PREFECT__ROUTE": "relay"},
            stdout=subprocess.PIPE,
            text=True,
            timeout=180,
            check=True,
        )
    result, flow_run_id = json.loads(ended.stdout.splitlines()[-1])
    assert result == 150 * 149
    states = [run.state.name for run in recorded(flow_run_id, 150)]
    assert states == ["Completed"] * 150
