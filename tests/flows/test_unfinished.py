"""Flow runs whose process died, and what they left at the API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Completed, Running

from daskenv_lab.background import write_record
from daskenv_lab.flows.unfinished import MESSAGE, end_orphans
from tests.waiting import until


@task
def nothing() -> None:
    """Do nothing."""


@flow
def left() -> None:
    """Stand for a flow whose process died."""


@pytest.fixture
def notes(api: str, state_dir: Path) -> Path:
    """Give the folder of notes."""
    folder = state_dir / "flow-runs"
    folder.mkdir(exist_ok=True)
    return folder


def note_of_the_dead(notes: Path, api: str, name: str) -> Path:
    """Leave a note as a process does that is killed."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(30)
    path = notes / f"{name}.json"
    write_record(path, {"pid": process.pid, "started": 1.0, "api": api})
    return path


def counted(client: SyncPrefectClient, flow_run_id: UUID, state: str) -> int:
    """Count task runs in a state."""
    chosen = {"flow_run_id": {"any_": [str(flow_run_id)]}, "state": {"type": {"any_": [state]}}}
    told = client._client.post("/task_runs/count", json={"task_runs": chosen})
    return int(told.raise_for_status().json())


def test_more_task_runs_than_the_api_gives_at_once(notes: Path, api: str) -> None:
    """All that had not ended are Crashed, and what had stays; the note goes when all is done."""
    with get_client(sync_client=True) as client:
        flow_run = client.create_flow_run(left, state=Running())
        for i in range(260):
            state: Any = Running() if i else Completed()
            client.create_task_run(nothing, flow_run.id, dynamic_key=str(i), state=state)
        path = note_of_the_dead(notes, api, str(flow_run.id))
        assert end_orphans() == [str(flow_run.id)]
        assert client.read_flow_run(flow_run.id).state.message == MESSAGE  # type: ignore[union-attr]
        until(lambda: not path.exists())
        assert counted(client, flow_run.id, "CRASHED") == 259
        assert counted(client, flow_run.id, "COMPLETED") == 1


def test_what_was_broken_off_goes_on(notes: Path, api: str) -> None:
    """A process that ended flow runs may end before their task runs; the next goes on."""
    with get_client(sync_client=True) as client:
        flow_run = client.create_flow_run(left, state=Running())
        client.create_task_run(nothing, flow_run.id, dynamic_key="1", state=Running())
        path = note_of_the_dead(notes, api, str(flow_run.id))
        assert end_orphans() == [str(flow_run.id)]
        until(lambda: not path.exists())
        client.create_task_run(nothing, flow_run.id, dynamic_key="2", state=Running())
        path = note_of_the_dead(notes, api, str(flow_run.id))
        assert end_orphans() == []
        until(lambda: not path.exists())
        assert counted(client, flow_run.id, "CRASHED") == 2


def test_a_flow_run_that_came_to_its_end_is_left_alone(notes: Path, api: str) -> None:
    """Its task runs' ends may still be on their way."""
    with get_client(sync_client=True) as client:
        flow_run = client.create_flow_run(left, state=Running())
        client.create_task_run(nothing, flow_run.id, dynamic_key="1", state=Running())
        client.set_flow_run_state(flow_run.id, Completed(), force=True)
        path = note_of_the_dead(notes, api, str(flow_run.id))
        assert end_orphans() == []
        assert not path.exists()
        assert counted(client, flow_run.id, "RUNNING") == 1


@pytest.mark.parametrize("name", ["6a6f7264-616e-4c00-8000-000000000000", "no-uuid"])
def test_notes_of_nothing_go(notes: Path, api: str, name: str) -> None:
    """Of flow runs that the API does not know, or of none."""
    path = note_of_the_dead(notes, api, name)
    assert end_orphans() == []
    assert not path.exists()
