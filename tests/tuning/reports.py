"""Reports as `run` makes them, written by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from daskenv_lab.report import ClientWait, FlowRunReport, TaskRunReport, WorkerReport

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def task_run(place: int, begun: float, seconds: float, **more: Any) -> TaskRunReport:
    """Describe a task run that began so many seconds after the flow run."""
    given: dict[str, Any] = {
        "id": f"id-{place}",
        "name": f"work-{place}",
        "task": "work",
        "state": "Completed",
        "start": START + timedelta(seconds=begun),
        "duration": seconds,
        "worker": "w0",
        "submitted": 0.0,
        "compute": seconds,
        "transfer": 0.0,
        "input_bytes": 0,
        "output_bytes": 100,
        "cpu": 0.0,
        "memory": 0,
    }
    return TaskRunReport(**{**given, **more})


def flow_run(*task_runs: TaskRunReport, **more: Any) -> FlowRunReport:
    """Describe a flow run on two workers."""
    given: dict[str, Any] = {
        "flow": "etl",
        "flow_run_id": "id",
        "flow_run_name": "brave-otter",
        "state": "Completed",
        "cluster": "dev",
        "start": START,
        "duration": 10.0,
        "task_runs": task_runs,
        "workers": tuple(
            WorkerReport(address=f"w{i}", nthreads=1, memory_limit=2**30, joined=0.0, memory=2**27)
            for i in range(2)
        ),
    }
    return FlowRunReport(**{**given, **more})


def waited(began: float, ended: float, *places: int) -> ClientWait:
    """Describe a wait of the flow's own code."""
    return ClientWait(began=began, ended=ended, task_runs=places)
