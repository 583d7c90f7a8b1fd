"""`daskenv register`: a cluster's tuned settings, or a profile's, become a deployment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from daskenv_lab.cli import main
from daskenv_lab.cli.surface import Surface
from daskenv_lab.errors import CommandError, RegistrationError

FLOWS = '''
from prefect import flow
from daskenv_lab import DaskGatewayEnvironment

@flow(task_runner=DaskGatewayEnvironment("local").task_runner())
def etl(x: list[int]) -> int:
    """Add up."""
    return sum(x)
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a flow."""
    (tmp_path / "flows.py").write_text(FLOWS.lstrip())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _say(*words: str) -> None:
    main.perform(["register", *words], Surface(namespace=None))


def test_a_profile(pool: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any cluster, at a schedule, with parameters."""
    words = ["flows.py:etl", "x=[1,2]", "--work-pool", pool, "--profile", "local", "--json"]
    _say(*words, "--every", "2h", "--deployment-name", "often")
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "etl/often"
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("etl/often")
    assert found.parameters == {"x": [1, 2]}
    assert [s.schedule.interval.total_seconds() for s in found.schedules] == [7200]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cron", "0 6 * * *", "--every", "2h"], "give one of the two"),
        (["--profile", "local", "--name", "dev"], "give one of the two"),
        (["--profile", "local", "--work-pool", "nowhere"], "no work pool 'nowhere'"),
        (["--profile", "local", "--image", "x:1"], "takes no 'image'"),
    ],
)
def test_what_does_not_go_together(pool: str, words: list[str], sentence: str) -> None:
    """One sentence says what to leave out."""
    with pytest.raises((CommandError, RegistrationError), match=sentence):
        _say("flows.py:etl", "--work-pool", pool, *words)
