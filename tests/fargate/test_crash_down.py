"""Killed with -9 at any AWS API call, `down` is done again by `down` or `reap`."""

from __future__ import annotations

import pytest

from daskenv_lab import inventory, registry
from daskenv_lab.providers.fargate.aws import Aws
from tests.fargate.conftest import ACCOUNT
from tests.fargate.crashing import EVERY, NOTHING, Kernels, killed_at, left
from tests.fargate.kernels import NAME

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


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
