"""The story from a terminal: every verb as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import daskenv_lab

pytestmark = pytest.mark.slow

BOUND = """
from prefect import flow
from daskenv_lab import DaskGatewayEnvironment

@flow(task_runner=DaskGatewayEnvironment("local").task_runner())
def etl(): ...
"""

FLOWS = """\
from prefect import flow, task


@task
def times_two(x):
    return x * 2


@flow
def add_up(x: list[int]) -> int:
    print("adding up")
    return sum(f.result() for f in times_two.map(x))


@flow
def fail(why: str = "no luck"):
    raise ValueError(why)
"""


def _daskenv(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [sys.executable, "-m", "daskenv_lab.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="module")
def cluster(state_dir: Path) -> str:
    """Start a cluster that the tests of this file share; the last of them destroys it."""
    ended = _daskenv("up", "local", "--name", "story", "--workers", "1")
    assert ended.stdout.startswith(("Started story: 1 worker\n", "Reusing story: 1 worker"))
    assert "starting" in ended.stderr or "asking" in ended.stderr
    return "story"


def test_a_cluster_is_reused_and_resized(cluster: str) -> None:
    """`up` again reuses, tells what changes live, and refuses what does not."""
    again = _daskenv("up", "local", "--name", cluster, "--workers", "2")
    assert again.stdout.startswith("Reusing story: ")
    assert "workers" in again.stdout
    assert "effect now" in again.stdout
    refused = _daskenv("up", "--name", cluster, "--option", "worker_threads=7", code=1)
    assert "--replace" in refused.stderr
    assert refused.stdout == ""


def test_a_cluster_is_told_in_words_and_in_json(cluster: str) -> None:
    """`status` and `ls` tell the same in both forms, and JSON is alone on stdout."""
    told = json.loads(_daskenv("status", cluster, "--json").stdout)
    assert told["name"] == cluster
    assert told["status"] == "running"
    assert [c["name"] for c in json.loads(_daskenv("ls", "--json").stdout)] == [cluster]
    assert "story: running" in _daskenv("status", cluster).stdout
    assert "--- scheduler" in _daskenv("logs", "--name", cluster, "--lines", "3").stdout


def test_an_export_makes_the_tuned_environment(cluster: str, tmp_path: Path) -> None:
    """`scale`, `adapt` and `export` end in a module that holds what was tuned."""
    path = tmp_path / "environment.py"
    assert "asked for 0 workers" in _daskenv("scale", "0", "--name", cluster).stdout
    _daskenv("adapt", "1", "3", "--name", cluster)
    assert _daskenv("export", str(path), "--name", cluster).stdout == f"Wrote {path}\n"
    assert "adaptive_max_workers=3" in path.read_text()
    _daskenv("scale", "1", "--name", cluster)


def test_each_format_makes_the_environment_again(cluster: str, tmp_path: Path) -> None:
    """`export` writes what `load` reads, and a new process that Dask gives the profile."""
    (tmp_path / "plain.py").write_text(FLOWS)
    (tmp_path / "etl.py").write_text(BOUND)
    where = f"{tmp_path / 'etl.py'}:etl"
    prefect = ("prefect.yaml", "--entrypoint", where, "--work-pool", "pool")
    for name, *options in (("e.json",), ("e.yaml", "--profile", "big"), prefect):
        path = tmp_path / name
        told = _daskenv("export", str(path), "--name", cluster, *options)
        assert told.stdout == f"Wrote {path}\n"
    made = [daskenv_lab.load(tmp_path / n) for n in ("e.json", "e.yaml", "prefect.yaml")]
    assert made[0] == made[1] == made[2]
    assert made[0].n_workers == 1
    assert "\n    big:\n" in (tmp_path / "e.yaml").read_text()
    other = ("--format", "dask", "--name", cluster)
    refused = _daskenv("export", str(tmp_path / "e.json"), *other, code=1)
    assert "is a name for the format 'json'" in refused.stderr
    unbound = ("--entrypoint", f"{tmp_path / 'plain.py'}:add_up", "--name", cluster)
    refused = _daskenv("export", str(tmp_path / "other.prefect.yaml"), *unbound, code=1)
    assert "is bound to no environment" in refused.stderr
    unknown = _daskenv("export", "--format", "jsn", code=2)
    assert "'jsn' is not one of" in unknown.stderr


def test_a_flow_runs_and_reports(cluster: str, tmp_path: Path) -> None:
    """`run` answers with the result; with `--json` nothing else is on stdout."""
    file = tmp_path / "etl.py"
    file.write_text(FLOWS)
    plain = _daskenv("run", f"{file}:add_up", "x=[1,2,3]", "--on", cluster)
    assert "Result: 12" in plain.stdout
    told = json.loads(
        _daskenv("run", f"{file}:add_up", "x=[1, 2, 3]", "--on", cluster, "--json").stdout
    )
    assert told["ok"] is True
    assert told["result"] == 12
    assert len(told["task_runs"]) == 3


def test_a_flow_that_fails_or_is_not_there_is_told(cluster: str, tmp_path: Path) -> None:
    """A flow's failure, a mistyped flow and a wrong parameter each end with exit code 1."""
    file = tmp_path / "etl.py"
    file.write_text(FLOWS)
    failed = _daskenv("run", f"{file}:fail", "why=rain", "--on", cluster, code=1)
    assert "ValueError: rain" in failed.stdout
    missing = _daskenv("run", f"{file}:ad_up", "--on", cluster, code=1)
    assert "did you mean 'add_up'" in missing.stderr
    assert "Traceback" not in missing.stderr
    wrong = _daskenv("run", f"{file}:add_up", "x=abc", "--on", cluster, code=1)
    assert "x" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_cluster_that_was_let_go_is_reaped(cluster: str) -> None:
    """`detach` leaves the cluster to `reap`, which only lists it when told so."""
    assert "lives on" in _daskenv("detach", cluster).stdout
    assert "Would remove:" in _daskenv("reap", "--idle", "0", "--dry-run").stdout
    assert cluster in _daskenv("reap", "--idle", "0").stdout
    assert "no cluster is named" in _daskenv("status", cluster, code=1).stderr
