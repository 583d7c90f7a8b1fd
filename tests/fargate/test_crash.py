"""Killed with -9 at any AWS API call, `up` and `down` leave nothing that cannot be mended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daskenv_lab import DaskCloudProviderEnvironment, inventory, registry, rehearsal
from daskenv_lab.providers.fargate import ingress, listing, shared, vault
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.providers.fargate.tags import CLUSTER
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
        ("hold-before", 5),
        ("hold-after", 9),
        pytest.param("hold-before", 1, marks=pytest.mark.sweep),
        pytest.param("hold-after", 1, marks=pytest.mark.sweep),
    ],
)
"""Whether the call has no effect, or one of which its caller has not heard; and which calls."""


@EVERY
def test_up_killed_at_its_calls_leaves_nothing(
    kernels: Kernels, aws: Aws, kind: str, step: int
) -> None:
    """At whatever call `up` dies, `reap` finds all that it had started."""
    k = 0
    while killed_at(kernels, "up", k, kind):
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


def test_a_task_that_starts_after_all_had_looked_is_found(kernels: Kernels, aws: Aws) -> None:
    """RunTask may take effect when its caller is dead and reaped; the next `reap` finds it."""
    rehearsal.order(Fault(kind="slow", operation="ecs:RunTask", times=1, seconds=12))
    pid = kernels.begin("up")
    _until(lambda: not rehearsal.faults())
    os.kill(pid, signal.SIGKILL)
    kernels.end()
    inventory.reap(ACCOUNT, idle=0)
    assert left(aws) == NOTHING
    # Whose secret takes the place of the one that the late task needs.
    kernels.begin("up")
    assert kernels.end() == 0
    _until(lambda: len({t.tags[CLUSTER] for t in listing.running(aws)}) == 2)
    inventory.down(NAME)
    assert len(left(aws)["tasks"]) == 1
    inventory.reap(ACCOUNT, idle=0)
    assert left(aws) == NOTHING


def test_up_opens_the_way_again_that_another_closed(kernels: Kernels, aws: Aws) -> None:
    """A `down` that dies between taking a rule and looking again does not keep `up` out."""
    rehearsal.order(Fault(kind="slow", operation="ecs:DescribeTasks", times=2, seconds=1))
    kernels.begin("up")
    _until(lambda: revoked(aws))
    assert kernels.end() == 0
    inventory.down(NAME)
    assert left(aws) == NOTHING


def revoked(aws: Aws) -> bool:
    """Take the rule for this machine from the shared group, if it is there."""
    found = shared.find(aws, {})
    if found is None or found.own_group is None:
        return False
    return bool(ingress.withdraw(aws, found.own_group, wanted=set))


@EVERY
def test_down_killed_at_its_calls_is_done_again(
    kernels: Kernels, aws: Aws, kind: str, step: int
) -> None:
    """At whatever call `down` dies, `down` or `reap` finishes it."""
    k = 0
    while True:
        kernels.begin("up")
        assert kernels.end() == 0
        if not killed_at(kernels, "down", k, kind):
            break
        if k % 2 == 0 and NAME in registry.names():
            inventory.down(NAME)
        inventory.reap(ACCOUNT, idle=0)
        assert left(aws) == NOTHING, f"killed at call {k}"
        k += step
    assert k > 5
    assert left(aws) == NOTHING


def _until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
