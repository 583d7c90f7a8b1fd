"""A cluster that somebody else made."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

from daskenv_lab.environments import RemoteDaskEnvironment
from daskenv_lab.errors import AuthenticationFailed, ClusterGone, NotSupported
from daskenv_lab.providers import provider_for


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Give a cluster with TLS that is not ours."""
    with distributed.LocalCluster(
        n_workers=1,
        processes=False,
        protocol="tls://",
        dashboard_address="127.0.0.1:0",
        security=distributed.Security.temporary(),
    ) as cluster:
        yield cluster


def test_a_remote_cluster_is_used_and_left_alone(cluster: distributed.LocalCluster) -> None:
    """It computes and tells how it is; it is neither sized nor stopped from here."""
    environment = RemoteDaskEnvironment(cluster.scheduler_address, security=cluster.security)
    provider = provider_for(environment)
    ref = provider.create("dev", timeout=120, progress=str, on_submitted=lambda _: None)
    connection = provider.connect(ref, timeout=120)
    assert connection.client.submit(sum, [1, 2]).result(120) == 3
    assert provider.info(connection).n_workers == 1
    with pytest.raises(NotSupported, match="scaled to 3"):
        provider.scale(connection, 3)
    with pytest.raises(NotSupported, match="between 1 and 3"):
        provider.adapt(connection, 1, 3)
    assert [info.ref for info in provider.find()] == [ref]
    provider.shutdown(ref, timeout=120)
    assert provider.info(connection).n_workers == 1
    provider.close(connection)
    provider.close(connection)


def test_connections_whose_other_side_hangs_up(state_dir: Path) -> None:
    """A port that takes connections and drops them before TLS is no cluster; closing goes well."""
    security = distributed.Security.temporary()
    options: dict[str, Any] = {"protocol": "tls://", "dashboard_address": None}
    with distributed.LocalCluster(n_workers=0, security=security, **options) as cluster:
        address = cluster.scheduler_address
        provider = provider_for(RemoteDaskEnvironment(address, security=security))
        ref = provider.create("dev", timeout=120, progress=str, on_submitted=lambda _: None)
        # Each tries to connect again, and some of these attempts end in the middle.
        connections = [provider.connect(ref, timeout=120) for _ in range(10)]
    with _dropping(address):
        time.sleep(2)
        for _ in range(8):
            with pytest.raises(ClusterGone, match="no scheduler answers"):
                provider.connect(ref, timeout=0.2)
        for connection in connections:
            provider.close(connection)
    assert {connection.client.status for connection in connections} == {"closed"}


@contextlib.contextmanager
def _dropping(address: str) -> Iterator[None]:
    """Take connections at an address, and reset each at once."""
    host, port = address.removeprefix("tls://").split(":")
    with socket.create_server((host, int(port))) as server:

        def drop() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken, _ = server.accept()
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    taken.close()

        thread = threading.Thread(target=drop, daemon=True)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
    thread.join(120)


def test_a_remote_cluster_that_does_not_answer() -> None:
    """Nothing listens there: the address is named within the time limit."""
    provider = provider_for(RemoteDaskEnvironment("tcp://127.0.0.1:9"))
    with pytest.raises(ClusterGone, match=r"tcp://127\.0\.0\.1:9"):
        provider.create("dev", timeout=1, progress=str, on_submitted=lambda _: None)


def test_credentials_that_cannot_be_used() -> None:
    """A certificate file that is not there, or an unknown argument, is one sentence."""
    for security in (
        {"tls_ca_file": "/none.pem", "tls_client_cert": "/none.pem"},
        {"tls_colour": "blue"},
    ):
        provider = provider_for(RemoteDaskEnvironment("tls://127.0.0.1:9", security=security))
        with pytest.raises(AuthenticationFailed, match=r"distributed\.Security"):
            provider.create("dev", timeout=1, progress=str, on_submitted=lambda _: None)
