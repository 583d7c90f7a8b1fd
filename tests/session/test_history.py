"""Reports in the state folder: kept, limited, read again, and never in the way of a flow run."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dask
import pytest

from daskenv_lab import history
from daskenv_lab.errors import FlowRunFailed, ReportError, StateError
from daskenv_lab.report import FlowRunReport, TaskRunReport

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    """Give a state folder of its own."""
    with dask.config.set({"daskenv.state-dir": str(tmp_path)}):
        yield tmp_path / "runs"


def report(n: int = 0, **changes: Any) -> FlowRunReport:
    """Make a report; each later one began later."""
    task_run = TaskRunReport(
        id="t", name="add-0", task="add", state="Completed", start=START, duration=0.5, worker="w"
    )
    given: dict[str, Any] = {
        "flow": "etl",
        "flow_run_id": f"id-{n}",
        "flow_run_name": "brave-otter",
        "state": "Completed",
        "cluster": "dev",
        "start": START + timedelta(seconds=n),
        "duration": 1.5,
        "task_runs": (task_run,),
        "peak_memory": {"w": 10},
        "cluster_size": ((0.0, 2),),
    }
    return FlowRunReport(**{**given, **changes})


def test_a_report_comes_back_as_it_was(folder: Path) -> None:
    """All but the flow's own objects, which are told as text."""
    path = history.keep(report(value=7))
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600
    assert history.load(path) == report()
    assert history.load(path).value == 7
    failed = history.load(history.keep(report(1, state="Failed", error=ValueError("no"))) or "")
    assert not failed.ok
    assert str(failed.error) == "ValueError: no"
    with pytest.raises(FlowRunFailed, match="ValueError: no"):
        _ = failed.result


def test_the_newest_come_first_and_the_oldest_go(folder: Path) -> None:
    """As many are kept as the configuration says, and they are found by cluster and flow."""
    with dask.config.set({"daskenv.runs.keep": 5}):
        for n in range(8):
            history.keep(report(n, cluster="dev" if n % 2 else "other"))
    assert len(list(folder.iterdir())) == 5
    assert [r.flow_run_id for r in history.last(2)] == ["id-7", "id-6"]
    assert [r.flow_run_id for r in history.last(cluster="dev")] == ["id-7", "id-5", "id-3"]
    assert history.last(flow="unknown") == []
    assert "id-7" in history.newest()
    with dask.config.set({"daskenv.runs.keep": 0}):
        assert history.keep(report(9)) is None


def test_a_large_value_is_kept_in_short(folder: Path) -> None:
    """A report is no place for a flow's data."""
    path = history.keep(report(value=["x" * 10_000] * 1000))
    assert path is not None
    assert len(gzip.decompress(path.read_bytes())) < 50_000


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\x1f\x8bbroken",
        b"[]",
        b'"text"',
        b'{"schema": 1}',
        json.dumps({**report().to_dict(), "schema": 99}).encode(),
        json.dumps({**report().to_dict(), "start": "yesterday"}).encode(),
        json.dumps({**report().to_dict(), "task_runs": [{"id": 1}]}).encode(),
    ],
)
def test_a_damaged_report_is_one_sentence(folder: Path, damage: bytes) -> None:
    """It is named, with what to do; the others are listed all the same."""
    history.keep(report())
    other = folder / "20991231T000000.0-bad.json.gz"
    other.write_bytes(damage)
    with pytest.raises(ReportError, match="run the flow again"):
        history.load(other)
    assert [r.flow_run_id for r in history.last()] == ["id-0"]


def test_hostile_ids_stay_in_the_folder(folder: Path) -> None:
    """An id is never a path."""
    path = history.keep(report(flow_run_id="../../etc/passwd\x00"))
    assert path is not None
    assert path.parent == folder


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A file in the folder's place names the way out."""
    (tmp_path / "runs").write_text("")
    with (
        dask.config.set({"daskenv.state-dir": str(tmp_path)}),
        pytest.raises(StateError, match=r"daskenv\.runs\.keep"),
    ):
        history.keep(report())
