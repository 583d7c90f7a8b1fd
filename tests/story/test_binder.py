"""The folder from which Binder builds an environment for the notebooks.

The rules are those of repo2docker: https://repo2docker.readthedocs.io/en/latest/configuration/
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
BINDER = ROOT / "binder"
SCRIPTS = ("postBuild", "start")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """Give what the project says of itself."""
    told: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return told


def _lines(name: str) -> list[str]:
    lines = (BINDER / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_executed(name: str) -> None:
    """Bash understands it, and it ends at the first command that fails."""
    script = BINDER / name
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/bash\n")
    assert "set -euo pipefail" in script.read_text()
    subprocess.run(["bash", "-n", script], check=True)


def test_a_session_starts_with_what_it_needs() -> None:
    """`start` sets variables and becomes the command; who sets them otherwise is obeyed."""
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    command = [BINDER / "start", sys.executable, "-c", code, "lab", "a b"]
    memory = "DASK_DASKENV__LOCAL__WORKER_MEMORY"

    def told(**variables: str) -> tuple[list[str], dict[str, str]]:
        ended = subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, check=True
        )
        arguments, seen = json.loads(ended.stdout)
        return arguments, seen

    arguments, seen = told()
    assert arguments == ["lab", "a b"]
    assert seen[memory] == "512 MiB"
    assert seen["DO_NOT_TRACK"] == "1"
    assert told(**{memory: "1 GiB"})[1][memory] == "1 GiB"


def test_the_python_is_one_of_the_project(project: dict[str, Any]) -> None:
    """`runtime.txt` has the one form that repo2docker reads, `python-x.y`."""
    [line] = _lines("runtime.txt")
    version = re.fullmatch(r"python-(\d+\.\d+)", line)
    assert version
    assert Requirement(f"python{project['requires-python']}").specifier.contains(version[1])


def test_the_versions_are_fixed_and_are_the_projects(project: dict[str, Any]) -> None:
    """Each constraint names one version, and none contradicts what the project asks for."""
    assert _lines("requirements.txt") == [".[rehearsal]", "-c constraints.txt"]
    pins = {}
    for line in _lines("constraints.txt"):
        name, version = re.fullmatch(r"([a-z0-9-]+)==([\w.]+)", line).groups()  # type: ignore[union-attr]
        pins[name] = version
    assert list(pins) == sorted(pins)
    extra = project["optional-dependencies"]["rehearsal"]
    for wanted in (Requirement(line) for line in [*project["dependencies"], *extra]):
        version = pins.get(canonicalize_name(wanted.name))
        assert version is None or wanted.specifier.contains(version), wanted
    assert {"dask", "distributed", "fastapi", "moto", "prefect", "prefect-dask"} <= {*pins}


@pytest.mark.slow
def test_pip_would_install_this_project() -> None:
    """As the image's builder runs it: at the root of the repository, without what it needs."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps"]
    ended = subprocess.run(
        [*command, "-r", "binder/requirements.txt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"Would install daskenv[-_]lab-", ended.stdout)
