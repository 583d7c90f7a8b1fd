"""The notebooks run from top to bottom, in a real kernel, and are stored without output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from daskenv_lab import registry

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a newcomer sees in a notebook, and what it leaves in the folder."""

    words: tuple[str, ...]
    files: tuple[str, ...]
    never: tuple[str, ...] = ()


EXPECTED = {
    "00_quickstart.ipynb": Expected(
        words=("Started dev: 2 workers", "12", "Reusing dev: ", "Wrote ", "Stopped dev"),
        files=("environment.py",),
    ),
    "01_fargate_rehearsal.ipynb": Expected(
        words=(
            "Started sky: 2 workers",
            "stops in",
            "AWS_ENDPOINT_URL=http://127.0.0.1",
            "Result: 12",
            "{'Completed': 4}",
            "Reusing sky: 3 workers",
            "--- scheduler",
            "good     scheduler: answer",
            "no-capacity",
            "FargateCluster",
            "Stopped sky",
            "Stopped the rehearsal",
        ),
        files=("sky.py",),
        never=("rehearse=True", "\nbad "),
    ),
    "02_gateway.ipynb": Expected(
        words=(
            "Secret('DASKENV_GATEWAY_PASSWORD')",
            "Started team: 1 worker",
            "no cluster option 'gpus'; known are:",
            "Result: 24.0",
            "team: from 1 to 2 workers",
            "Computed there: 6",
            "adaptive_max_workers: 2",
            "Stopped team",
        ),
        files=("team.yaml",),
        never=("the password",),
    ),
    "03_tune_and_export.ipynb": Expected(
        words=(
            "Started tune: 1 worker",
            "tune: asked for 4 workers",
            "Result: 56",
            "four workers",
            "n_workers=4",
            'entrypoint: "flows.py:survey"',
            "FROM ghcr.io/dask/dask:",
            "'environment.py': True",
            "'environment.json': True",
            "'environment.yaml': True",
            "'prefect.yaml': True",
            "Stopped tune",
        ),
        files=(
            "Dockerfile",
            "environment.json",
            "environment.py",
            "environment.yaml",
            "flows.py",
            "prefect.yaml",
            "requirements.txt",
        ),
    ),
    "04_register_for_production.ipynb": Expected(
        words=(
            "A cluster with n_workers=2",
            "The total is 6",
            "Registered add-up/hourly in the work pool daskenv-notebook",
            "on_execute=by_length",
            "'Scheduled'",
            "A cluster with n_workers=3",
            "The total is 12",
            "Dask cluster removed",
            "'Completed'",
        ),
        files=("add_up_hourly.py",),
    ),
}


def test_each_notebook_is_expected_something_of() -> None:
    """They are those that a newcomer is to read, in that order."""
    assert [path.name for path in NOTEBOOKS] == list(EXPECTED)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_notebook_is_stored_without_output(path: Path) -> None:
    """Output in the repository would go stale, and so would marks of who ran it and how."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": {
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        assert cell.id == f"cell-{number:02}"
        assert not cell.metadata
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    """Every cell runs, what a newcomer should see is there, and no cluster stays."""
    expected, ran_before = EXPECTED[path.name], registry.names()
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=400,
        startup_timeout=200,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    shown = "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
    assert [words for words in expected.words if words not in shown] == []
    assert [words for words in expected.never if words in shown] == []
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {*expected.files}
    assert registry.names() == ran_before
