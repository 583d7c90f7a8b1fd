"""An AWS account on this machine for the tests, rehearsed by a background server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from daskenv_lab import DaskCloudProviderEnvironment, inventory, rehearsal
from daskenv_lab.providers.fargate import shared
from daskenv_lab.providers.fargate.aws import Aws, Credentials
from tests.fargate.crashing import Kernels

ACCOUNT = DaskCloudProviderEnvironment("fargate", rehearse=True)


@pytest.fixture(scope="session")
def aws() -> Iterator[Aws]:
    """Give the rehearsal that clusters are started in; its shared set is made when needed."""
    started = rehearsal.start(latency="none")
    yield account(started)
    rehearsal.stop(timeout=120)


@pytest.fixture(scope="session")
def other_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Aws, Path]]:
    """Give a second rehearsal, where the shared set can come and go, and its state folder."""
    folder = tmp_path_factory.mktemp("other-account")
    with dask.config.set({"daskenv.state-dir": str(folder)}):
        started = rehearsal.start(latency="none")
    yield account(started), folder
    with dask.config.set({"daskenv.state-dir": str(folder)}):
        rehearsal.stop(timeout=120)


@pytest.fixture
def empty_aws(other_account: tuple[Aws, Path]) -> Iterator[Aws]:
    """Give an account without the shared set; the orders of `rehearsal` go to it."""
    aws, folder = other_account
    with dask.config.set({"daskenv.state-dir": str(folder)}):
        shared.remove(aws, progress=print)
        rehearsal.forget_calls()
        yield aws
        rehearsal.clear()


def account(started: rehearsal.Rehearsal, region: str | None = None) -> Aws:
    """Give the way to a rehearsal's API."""
    return Aws(
        region=region or started.region,
        credentials=Credentials(key_id=started.key_id, secret=started.secret),
        endpoint=started.endpoint,
    )


@pytest.fixture
def kernels(aws: Aws) -> Iterator[Kernels]:
    """Give processes that have imported everything, and a clean account at the end."""
    started = Kernels()
    yield started
    started.close()
    rehearsal.clear()
    inventory.reap(ACCOUNT, idle=0)
