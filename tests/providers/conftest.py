"""A Dask Gateway of somebody else's, for the tests: a real server in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp  # noqa: F401 - imported here once, and not inside a test's time limit
import dask
import pytest

from daskenv_lab.background import end_all, processes_under

PASSWORD = "correct-horse-battery"

CONFIG = """
import sys
from dask_gateway_server.options import Options, Integer, String
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = {password!r}
c.Proxy.address = "127.0.0.1:{port}"
c.LocalBackend.clusters_directory = {clusters!r}
c.LocalBackend.cluster_status_period = 1
c.LocalBackend.sigint_timeout = 2
c.LocalBackend.inherited_environment = ["PATH", "HOME"]
c.ClusterConfig.scheduler_cmd = {scheduler_cmd!r}
c.ClusterConfig.worker_cmd = [sys.executable, "-m", "distributed.cli.dask_worker"]
c.ClusterConfig.worker_memory = 1024**3
c.Backend.cluster_options = Options(
    Integer("worker_cores", default=1, min=1, max=2),
    String("image", default="plain"),
    handler=lambda options: {{"worker_cores": options.worker_cores}},
)
"""


@dataclass(frozen=True, kw_only=True)
class GatewayServer:
    """A Gateway that runs in a folder."""

    address: str
    folder: Path
    process: subprocess.Popen[bytes]

    def auth(self, password: str = PASSWORD) -> dict[str, str]:
        """Give what an environment's `auth` takes."""
        return {"type": "basic", "username": "ada", "password": password}

    def kill(self) -> None:
        """End it with -9, as a crash would."""
        self.process.kill()
        self.process.wait(120)


StartGateway = Callable[..., GatewayServer]


@pytest.fixture(scope="session")
def start_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """Give a function that starts a Gateway; all are stopped at the end."""
    with ExitStack() as stop:

        def start(scheduler_cmd: list[str] | None = None) -> GatewayServer:
            folder = tmp_path_factory.mktemp("gateway")
            server = _start(
                folder, scheduler_cmd or [sys.executable, "-m", "distributed.cli.dask_scheduler"]
            )
            stop.callback(_stop, server)
            return server

        yield start


@pytest.fixture(scope="session")
def gateway_server(start_gateway: StartGateway) -> GatewayServer:
    """Give a Gateway that works."""
    return start_gateway()


@pytest.fixture
def own_state(tmp_path: Path) -> Iterator[Path]:
    """Give a test a state folder of its own, and stop what it leaves there."""
    from daskenv_lab.providers.local import stop_server

    with dask.config.set({"daskenv.state-dir": str(tmp_path / "state")}):
        yield tmp_path / "state"
        stop_server(timeout=120)
        end_all(processes_under(tmp_path), patience=2)


def _start(folder: Path, scheduler_cmd: list[str]) -> GatewayServer:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "clusters").mkdir()
    written = CONFIG.format(
        password=PASSWORD,
        port=port,
        clusters=str(folder / "clusters"),
        scheduler_cmd=scheduler_cmd,
    )
    (folder / "config.py").write_text(written)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask_gateway_server", "-f", "config.py"],
            cwd=folder,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    patience = time.monotonic() + 120
    while time.monotonic() < patience:
        # The proxy listens a little before it knows the way to the server.
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2),
        ):
            break
        time.sleep(0.1)
    else:
        process.kill()
        raise AssertionError((folder / "log").read_text())
    return GatewayServer(address=f"http://127.0.0.1:{port}", folder=folder, process=process)


def _stop(server: GatewayServer) -> None:
    if server.process.poll() is None:
        os.kill(server.process.pid, signal.SIGTERM)
        try:
            server.process.wait(120)
        except subprocess.TimeoutExpired:
            server.kill()
    end_all(processes_under(server.folder), patience=2)
