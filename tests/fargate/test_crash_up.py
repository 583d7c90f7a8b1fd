"""Killed with -9 at any AWS API call, `up` leaves nothing that cannot be mended."""

from __future__ import annotations

import os
import signal

import pytest

from daskenv_lab import inventory, rehearsal
from daskenv_lab.providers.fargate import ingress, listing, shared
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.providers.fargate.tags import CLUSTER
from daskenv_lab.rehearsal import Fault
from tests.fargate.conftest import ACCOUNT
from tests.fargate.crashing import EVERY, NOTHING, Kernels, killed_at, left
from tests.fargate.kernels import NAME
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


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
    until(lambda: not rehearsal.faults())
    os.kill(pid, signal.SIGKILL)
    kernels.end()
    inventory.reap(ACCOUNT, idle=0)
    assert left(aws) == NOTHING
    # Whose secret takes the place of the one that the late task needs.
    kernels.begin("up")
    assert kernels.end() == 0
    until(lambda: len({t.tags[CLUSTER] for t in listing.running(aws)}) == 2)
    inventory.down(NAME)
    assert len(left(aws)["tasks"]) == 1
    inventory.reap(ACCOUNT, idle=0)
    assert left(aws) == NOTHING


def test_up_opens_the_way_again_that_another_closed(kernels: Kernels, aws: Aws) -> None:
    """A `down` that dies between taking a rule and looking again does not keep `up` out."""
    rehearsal.order(Fault(kind="slow", operation="ecs:DescribeTasks", times=2, seconds=1))
    kernels.begin("up")
    until(lambda: revoked(aws))
    assert kernels.end() == 0
    inventory.down(NAME)
    assert left(aws) == NOTHING


def revoked(aws: Aws) -> bool:
    """Take the rule for this machine from the shared group, if it is there."""
    found = shared.find(aws, {})
    if found is None or found.own_group is None:
        return False
    return bool(ingress.withdraw(aws, found.own_group, wanted=set))
