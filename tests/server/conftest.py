"""Jupyter Servers, clusters with real dashboards, and one with a hostile one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributed import LocalCluster

from daskenv_lab import registry
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.environments import RemoteDaskEnvironment
from daskenv_lab.lifecycle import up
from tests.server.hostile import Hostile, hostile
from tests.server.jupyter import Jupyter, serving

_OTHERS = ("jupyterlab", "jupyter_lsp", "notebook_shim", "panel.io.jupyter_server_extension")
_QUIET = f"--ServerApp.jpserver_extensions={dict.fromkeys(_OTHERS, False)}"


@pytest.fixture(scope="session")
def jupyter(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """Run a server whose patience with dashboards is short."""
    limits = {
        "DASK_DASKENV__DASHBOARD__ANSWER_TIMEOUT": "20 seconds",
        "DASK_DASKENV__DASHBOARD__ANSWER_LIMIT": "16 MiB",
        "DASK_DASKENV__TIMEOUTS__CONNECT": "15 seconds",
    }
    with serving(tmp_path_factory.mktemp("jupyter"), _QUIET, **limits) as server:
        yield server


@pytest.fixture(scope="session")
def hasty_jupyter(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """Run another server, whose tickets have run out as soon as they are made."""
    lifetime = {"DASK_DASKENV__DASHBOARD__TICKET_LIFETIME": "0 seconds"}
    with serving(tmp_path_factory.mktemp("hasty"), _QUIET, **lifetime) as server:
        yield server


@pytest.fixture(scope="session")
def gateway_cluster(state_dir: Path) -> Iterator[str]:
    """Give the name of a cluster of the embedded Gateway, which no process is connected to."""
    session = up("local", name="behind-gateway", n_workers=1)
    session.close()
    yield session.name
    if registry.read(session.name):
        up("local", name=session.name).down(timeout=120)


@dataclass(frozen=True, kw_only=True)
class Trap:
    """A cluster whose dashboard is hostile."""

    name: str
    server: Hostile
    cluster: LocalCluster


@pytest.fixture(scope="session")
def trap(state_dir: Path) -> Iterator[Trap]:
    """Record a real scheduler, which says that its dashboard is where a hostile server listens."""
    with hostile() as server, _plain_cluster() as cluster:

        class Dashboard:
            port = server.port

            def stop(self) -> None:
                """Stop nothing, when the scheduler ends."""

        cluster.scheduler.services["dashboard"] = Dashboard()
        record("trap", cluster.scheduler_address)
        yield Trap(name="trap", server=server, cluster=cluster)
        registry.forget("trap")


@pytest.fixture
def plain_cluster(state_dir: Path) -> Iterator[LocalCluster]:
    """Give a cluster of Dask's own, recorded as `plain`."""
    with _plain_cluster() as cluster:
        record("plain", cluster.scheduler_address)
        yield cluster
        registry.forget("plain")


def _plain_cluster() -> LocalCluster:
    return LocalCluster(
        n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0"
    )


def record(name: str, address: str) -> None:
    """Record somebody else's cluster."""
    ref = ClusterRef(provider="remote", id=address, location=address)
    registry.write(registry.new(name, RemoteDaskEnvironment(address)), ref=ref, ready=True)
