"""Killed with -9 at any AWS API call, `up` and `down` leave nothing that cannot be mended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daskenv_lab import DaskCloudProviderEnvironment, inventory, registry, rehearsal
from daskenv_lab.providers.fargate import listing, vault
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.rehearsal import Fault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NAME = "crash"
LIMIT = 60.0
KERNELS = Path(__file__).with_name("kernels.py")
ACCOUNT = DaskCloudProviderEnvironment("fargate", rehearse=True)


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


@pytest.fixture
def kernels(aws: Aws) -> Iterator[Kernels]:
    """Give processes that have imported everything, and a clean account at the end."""
    started = Kernels()
    yield started
    started.close()
    rehearsal.clear()
    inventory.reap(ACCOUNT, idle=0)


def killed_at(kernels: Kernels, verb: str, k: int, kind: str, operation: str = "*") -> bool:
    """Kill a verb while its k-th call is under way; False if it has fewer calls."""
    rehearsal.order(Fault(kind=kind, operation=operation, times=1, after=k, seconds=20))
    pid = kernels.begin(verb)
    deadline = time.monotonic() + LIMIT
    while rehearsal.faults() and _lives(pid):
        assert time.monotonic() < deadline, f"{verb} neither ended nor came to its call {k}"
        time.sleep(0.02)
    struck = not rehearsal.faults()
    if struck and kind == "hold-after":
        time.sleep(0.3)  # so that the call has taken effect
    if struck:
        os.kill(pid, signal.SIGKILL)
    code = kernels.end()
    rehearsal.clear()
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


EVERY = [pytest.param(5), pytest.param(1, marks=pytest.mark.sweep)]
"""Which calls: every fifth, or every one."""


@pytest.mark.parametrize("step", EVERY)
def test_up_killed_at_its_calls_leaves_nothing(kernels: Kernels, aws: Aws, step: int) -> None:
    """At whatever call `up` dies, `reap` finds all that it had started."""
    k = 0
    while killed_at(kernels, "up", k, "hold-before"):
        inventory.reap(ACCOUNT, idle=0)
        assert left(aws) == NOTHING, f"killed at call {k}"
        k += step
    assert k > 10
    inventory.down(NAME)
    assert left(aws) == NOTHING


@pytest.mark.parametrize(
    "operation",
    ["secretsmanager:CreateSecret", "ecs:RunTask", "ec2:AuthorizeSecurityGroupIngress"],
)
def test_up_killed_after_a_call_took_effect(kernels: Kernels, aws: Aws, operation: str) -> None:
    """What was made, without its maker having heard of it, is found too; and `up` works again."""
    assert killed_at(kernels, "up", 0, "hold-after", operation)
    kernels.begin("up")
    assert kernels.end() == 0
    [info] = [info for info in inventory.ls(ACCOUNT) if info.status == "running"]
    assert (info.name, info.n_workers) == (NAME, 1)
    inventory.down(NAME)
    inventory.reap(ACCOUNT, idle=0)
    assert left(aws) == NOTHING


@pytest.mark.parametrize("step", EVERY)
def test_down_killed_at_its_calls_is_done_again(kernels: Kernels, aws: Aws, step: int) -> None:
    """At whatever call `down` dies, `down` or `reap` finishes it."""
    k = 0
    while True:
        kernels.begin("up")
        assert kernels.end() == 0
        if not killed_at(kernels, "down", k, "hold-before"):
            break
        if k % 2 == 0 and NAME in registry.names():
            inventory.down(NAME)
        inventory.reap(ACCOUNT, idle=0)
        assert left(aws) == NOTHING, f"killed at call {k}"
        k += step
    assert k > 5
    assert left(aws) == NOTHING


def _lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
