"""`daskenv tune`: a table, what stands out, and one sentence for each mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from click.testing import CliRunner, Result

from daskenv_lab import history, tune
from daskenv_lab.cli import main
from daskenv_lab.environments import from_dict
from daskenv_lab.errors import ReportError
from tests.tuning.reports import flow_run, task_run, waited


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a state folder of its own, with one run of a map of thirty seconds on two workers."""
    runs = [
        task_run(i, 0.5 + i // 2, 1.0, submitted=0.5, worker=f"w{i % 2}", memory=50 * 2**20)
        for i in range(30)
    ]
    with dask.config.set({"daskenv.state-dir": str(tmp_path), "daskenv.name": "dev"}):
        history.keep(flow_run(*runs, waits=(waited(0.5, 15.5, *range(30)),), duration=16.0))
        yield tmp_path


def _daskenv(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="daskenv")


def test_the_table() -> None:
    """Each cluster of the frontier, and what stands out with its reason."""
    result = _daskenv("tune", "--running", "--deadline", "10s")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("etl: ")
    assert lines[1].split() == ["cluster", "time", "cost", "memory", "busy", "limited", "by"]
    assert any(line.startswith("2 workers") and " 16.0 s " in line for line in lines)
    assert any(line.startswith("Cheapest within 10 s: ") for line in lines), result.stdout
    assert any(line.startswith("Fastest: ") for line in lines)
    assert any(line.startswith("Knee: ") for line in lines)
    assert "set daskenv.prices.worker-hour for US dollars" in lines[-1]


def test_on_fargate() -> None:
    """Another kind than the one that was used, with its prices."""
    result = _daskenv("tune", "--profile", "fargate", "--most", "4")
    assert "0.25 vCPU and 512.0 MiB" in result.stdout
    assert "$0.00" in result.stdout
    assert "Prices: Fargate in us-east-1" in result.stdout


def test_a_bound_that_nothing_keeps() -> None:
    """The nearest is told."""
    told = _daskenv("tune", "--deadline", "1s", "--most", "8").stdout
    assert "Cheapest within 1 s: none of 11 clusters does; nearest is 8 workers" in told


def test_a_bound_that_only_a_cluster_beside_the_frontier_keeps() -> None:
    """What is left out of the frontier, since it gains little, is not said to be missing."""
    told = _daskenv("tune", "--profile", "fargate", "--most", "4").stdout
    fastest = float(re.findall(r"the fastest fixed one (\d+\.\d) s", told)[0])
    found = _daskenv(
        "tune", "--profile", "fargate", "--most", "4", "--deadline", f"{fastest + 0.1:.1f}s"
    ).stdout
    assert "none of" not in found


def test_json() -> None:
    """With environments that can be made of it."""
    told: dict[str, Any] = json.loads(_daskenv("tune", "--json", "--most", "4").stdout)
    assert told["flow"] == "etl"
    assert from_dict(told["cheapest"]["environment"]).n_workers == 1
    assert told["frontier"][0]["seconds"][0] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "nosuch"], "'nosuch'"),
        (["--flow", "elt"], "no run of the flow 'elt' was recorded; did you mean 'etl'?"),
        (["--budget", "nan"], "nan is no amount; write it as 2.50"),
        (["--deadline", "soon"], "'soon' is no duration; write it as 90, '30m' or '2 hours'"),
        (["--budget", "-1"], "-1.0 is not in the range"),
        (["--profile", "fargat"], "did you mean 'fargate'?"),
    ],
)
def test_mistakes(arguments: list[str], said: str) -> None:
    """One sentence, with what to do."""
    result = _daskenv("tune", *arguments)
    assert result.exit_code != 0
    assert said in " ".join(result.output.split())


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    """No run, a run without tasks, and one that failed."""
    with dask.config.set({"daskenv.state-dir": str(tmp_path / "empty")}):
        with pytest.raises(ReportError, match="no flow run with tasks was recorded"):
            tune()
        history.keep(flow_run())
        history.keep(flow_run(task_run(0, 0.0, 1.0), state="Failed", flow_run_id="2"))
        with pytest.raises(ReportError, match="no flow run with tasks was recorded"):
            tune()


def test_reports_of_an_older_version(tmp_path: Path) -> None:
    """They can be read, and say that they tell too little."""
    with dask.config.set({"daskenv.state-dir": str(tmp_path / "old")}):
        path = history.keep(flow_run(task_run(0, 0.0, 1.0)))
        assert path is not None
        from daskenv_lab.report import FlowRunReport

        old = history.load(path).to_dict() | {"schema": 1}
        for word in ("waits", "workers", "measures", "bandwidth"):
            del old[word]
        with pytest.raises(ReportError, match="does not say what its tasks needed"):
            tune(reports=[FlowRunReport.from_dict(old)])
