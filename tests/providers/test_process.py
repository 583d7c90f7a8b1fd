"""Clusters held by a process of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import psutil
import pytest

from daskenv_lab.background import processes_under
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.environments import DaskCloudProviderEnvironment
from daskenv_lab.errors import (
    ClusterGone,
    ClusterStartError,
    EnvironmentValueError,
    WaitTimeout,
)
from daskenv_lab.providers.process import ProcessProvider

LOCAL = "distributed.LocalCluster"


def _provider(path: str = LOCAL, **kwargs: Any) -> ProcessProvider:
    return ProcessProvider(DaskCloudProviderEnvironment(path, **kwargs))


def _create(provider: ProcessProvider, timeout: float = 60.0) -> ClusterRef:
    return provider.create(
        "dev", timeout=timeout, progress=lambda _: None, on_submitted=lambda _: None
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "kwargs", "says"),
    [
        ("no.such.Cluster", {}, "No module named"),
        ("distributed.LocalClustr", {}, "no attribute 'LocalClustr'"),
        (LOCAL, {"thread_per_worker": 2}, "did you mean 'threads_per_worker'"),
        (LOCAL, {"host": "256.256.256.256"}, "could not be made"),
    ],
)
def test_a_class_that_cannot_be_made(
    own_state: Path, path: str, kwargs: dict[str, Any], says: str
) -> None:
    """The class's own message comes back, and no process or folder stays."""
    with pytest.raises(ClusterStartError, match=says):
        _create(_provider(path, **kwargs))
    assert list((own_state / "clusters-held").iterdir()) == []
    assert processes_under(own_state) == []


def test_an_argument_that_cannot_travel(own_state: Path) -> None:
    """An open file cannot be told to another process, and nothing is started."""
    with pytest.raises(EnvironmentValueError, match="plain values"):
        _create(_provider(LOCAL, name=object()))


@pytest.mark.slow
def test_a_class_that_takes_too_long(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit holds, and nothing stays that nobody knows."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    provider = _provider("slow_cluster.SlowCluster", seconds=4)
    with pytest.raises(WaitTimeout, match="not ready within 1 s"):
        _create(provider, timeout=1)
    assert processes_under(own_state) == []


@pytest.mark.slow
def test_a_holder_that_is_killed(own_state: Path) -> None:
    """Its cluster is gone, its workers end, and shutting down clears the rest."""
    provider = _provider()
    ref = _create(provider)
    connection = provider.connect(ref, timeout=120)
    provider.scale(connection, 1)
    connection.client.wait_for_workers(1, timeout=120)
    record = json.loads((Path(ref.location) / "holder.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    provider.close(connection)
    with pytest.raises(ClusterGone, match="daskenv up"):
        provider.connect(ref, timeout=120)
    assert provider.find() == []
    provider.shutdown(ref, timeout=120)
    assert processes_under(own_state) == []
    assert not Path(ref.location).exists()


@pytest.mark.slow
def test_orders_need_the_key(own_state: Path) -> None:
    """A stranger on this machine is refused, and a silent one blocks nobody."""
    provider = _provider()
    ref = _create(provider)
    record = json.loads((Path(ref.location) / "holder.json").read_text())
    address = tuple(record["control"])
    assert address[0] == "127.0.0.1"
    with socket.create_connection(address), pytest.raises((AuthenticationError, EOFError)):
        Client(address, authkey=b"guess")
    assert record["key"] not in " ".join(psutil.Process(record["pid"]).cmdline())
    assert "PRIVATE KEY" not in json.dumps(record)
    assert record["key"] not in (Path(ref.location) / "process_holder.log").read_text()
    silent = socket.create_connection(address)
    provider.close(provider.connect(ref, timeout=120))
    silent.close()
    provider.shutdown(ref, timeout=120)


@pytest.mark.slow
def test_an_idle_cluster_ends(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connected client keeps the cluster; without one it ends by itself."""
    monkeypatch.setenv("DASK_DASKENV__LOCAL__IDLE_TIMEOUT", "2s")
    provider = _provider()
    ref = _create(provider)
    connection = provider.connect(ref, timeout=120)
    time.sleep(4)
    assert provider.info(connection).clients == 0
    provider.close(connection)
    deadline = time.monotonic() + 120
    while Path(ref.location).exists() or processes_under(own_state):
        assert time.monotonic() < deadline
        time.sleep(0.2)
