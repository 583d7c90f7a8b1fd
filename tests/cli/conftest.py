"""An AWS account of these tests' own, and the verbs in this process or at a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import pytest
from click.testing import CliRunner, Result

from daskenv_lab import rehearsal
from daskenv_lab.cli import main

Verb = Callable[..., Result]
AtTerminal = Callable[..., tuple[int, str]]

_WAYS_IN = (
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)


@pytest.fixture(scope="session")
def verb() -> Verb:
    """Run a verb in this process, with nobody at its input, and check its exit code."""

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments), prog_name="daskenv")
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture(scope="session")
def rehearsal_state(state_dir: Path) -> Iterator[Path]:
    """Give a state folder whose one rehearsal is stopped at the end."""
    folder = state_dir.parent / "state-of-cli"
    yield folder
    with dask.config.set({"daskenv.state-dir": str(folder)}):
        rehearsal.stop(timeout=120)


@pytest.fixture(scope="module")
def own_rehearsal(rehearsal_state: Path) -> Iterator[None]:
    """Keep to that folder, in this process and in those it starts."""
    with (
        pytest.MonkeyPatch.context() as changed,
        dask.config.set({"daskenv.state-dir": str(rehearsal_state)}),
    ):
        changed.setenv("DASK_DASKENV__STATE_DIR", str(rehearsal_state))
        yield


@pytest.fixture(scope="module")
def no_account() -> Iterator[None]:
    """Take all ways into an AWS account away."""
    with pytest.MonkeyPatch.context() as changed:
        for name in _WAYS_IN:
            changed.delenv(name, raising=False)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            changed.setenv(name, os.devnull)
        changed.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture
def account(
    own_rehearsal: None, no_account: None, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Make the rehearsal this user's own AWS account, and take the shared set away."""
    verb("rehearse", "start", "--latency", "none")
    here = json.loads(verb("rehearse", "status", "--json").stdout)
    monkeypatch.setenv("AWS_ENDPOINT_URL", here["endpoint"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", here["region"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", here["key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", here["secret"])
    monkeypatch.setenv("DASK_DASKENV__FARGATE__ROLE_DELAY", "0")
    verb("bootstrap", "--remove")
    with dask.config.set({"daskenv.fargate.role-delay": 0}):
        yield
    rehearsal.clear()


@pytest.fixture
def at_terminal() -> Iterator[AtTerminal]:
    """Run a verb at a terminal, answer its question, and give its code and what was shown."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str, answer: str) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "daskenv_lab.cli", *arguments]
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
        started.append(process)
        os.close(theirs)
        shown = _read(ours, until="[y/N]")
        os.write(ours, f"{answer}\n".encode())
        shown += _read(ours, until=None)
        os.close(ours)
        return process.wait(timeout=120), shown

    yield run
    for process in started:
        process.kill()
        process.wait(timeout=120)


def _read(terminal: int, until: str | None, limit: float = 60.0) -> str:
    """Read what is shown, until some words or the end."""
    shown = b""
    deadline = time.monotonic() + limit
    while until is None or until.encode() not in shown:
        left = deadline - time.monotonic()
        if left < 0 or not select.select([terminal], [], [], left)[0]:
            raise AssertionError(f"it stayed at {shown.decode()}")
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break  # Linux says so when the other side has closed.
    return shown.decode()
