"""Verbs that are killed with -9 while one of their AWS API calls is under way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daskenv_lab import registry, rehearsal
from daskenv_lab.providers.fargate import listing, vault
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.rehearsal import Fault
from tests.fargate.kernels import NAME

LIMIT = 60.0
KERNELS = Path(__file__).with_name("kernels.py")


class Kernels:
    """Processes that do one verb each."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(KERNELS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def begin(self, verb: str) -> int:
        """Start a verb, and give its process's number."""
        assert self._server.stdin
        self._server.stdin.write(f"{verb}\n")
        return int(self._line())

    def end(self) -> int:
        """Wait for the last verb, and give its exit code."""
        return int(self._line())

    def close(self) -> None:
        """End the process that forks."""
        self._server.communicate(timeout=LIMIT)

    def _line(self) -> str:
        assert self._server.stdout
        return self._server.stdout.readline()


def killed_at(kernels: Kernels, verb: str, k: int, kind: str, operation: str = "*") -> bool:
    """Kill a verb while its k-th call is held; False if it has fewer calls."""
    rehearsal.order(Fault(kind=kind, operation=operation, times=1, after=k, seconds=LIMIT))
    pid = kernels.begin(verb)
    deadline = time.monotonic() + LIMIT
    while not (struck := bool(rehearsal.held())) and _lives(pid):
        assert time.monotonic() < deadline, f"{verb} neither ended nor came to its call {k}"
        time.sleep(0.02)
    if struck:
        os.kill(pid, signal.SIGKILL)
    code = kernels.end()
    rehearsal.clear()
    while rehearsal.held():
        assert time.monotonic() < deadline, "the rehearsal has not seen the caller's end"
        time.sleep(0.02)
    assert struck or code == 0
    return struck


def left(aws: Aws) -> dict[str, list[str]]:
    """Give what there is besides the shared set."""
    return {
        "tasks": [t.arn for t in listing.running(aws)],
        "secrets": [name for name, _ in vault.kept(aws)],
        "records": [name for name in registry.names() if name == NAME],
    }


NOTHING: dict[str, list[str]] = {"tasks": [], "secrets": [], "records": []}


EVERY = pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("hold-before", 7),
        ("hold-after", 13),
        pytest.param("hold-before", 1, marks=pytest.mark.sweep),
        pytest.param("hold-after", 1, marks=pytest.mark.sweep),
    ],
)
"""Whether the call has no effect, or one of which its caller has not heard; and which calls."""


def _lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
