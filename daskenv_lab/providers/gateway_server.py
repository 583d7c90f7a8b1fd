"""The embedded Dask Gateway: ``python -m daskenv_lab.providers.gateway_server <folder>``.

A real Dask Gateway server with its local backend, on loopback, for one user. It keeps its
clusters in a database in its folder, so that one that was killed and started again finds them,
and it ends by itself when it has had no clusters for a while.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import filelock
import psutil
from dask.utils import parse_bytes, parse_timedelta
from dask_gateway_server.app import DaskGateway
from dask_gateway_server.backends.db_base import JobStatus, timestamp
from dask_gateway_server.backends.local import UnsafeLocalBackend
from dask_gateway_server.options import Integer, Mapping, Options, String
from traitlets import Bool, Float, Unicode
from traitlets.config import Config

from daskenv_lab import config
from daskenv_lab.background import (
    Background,
    end_all,
    last_lines,
    processes_under,
    read_record,
    write_record,
)

RECORD = "server.json"
LOCK = "server.lock"
CLUSTERS = "clusters"
FAILED = "failed"

# Variables of the process that happened to start the server, which mean nothing to a cluster.
_NOT_INHERITED = ("JPY_", "DASK_GATEWAY_", "MPLBACKEND", "PYTEST_", "IPYTHON")


class EmbeddedBackend(UnsafeLocalBackend):
    """Gateway's local backend, made safe for a server that is killed and started again."""

    resumes = Bool(True, config=True, help="Whether schedulers still know the server's address.")

    async def do_setup(self) -> None:
        """Keep the clusters of the server before that still run, and end all the others."""
        kept = set()
        for cluster in list(self.db.active_clusters()):
            if self.resumes and cluster.status == JobStatus.RUNNING and self._runs(cluster):
                self.log.info("Found cluster %s again", cluster.name)
                kept.add(cluster.name)
            else:
                self.db.update_cluster(cluster, target=JobStatus.FAILED)
                self.queue.put(cluster)
        for workdir in Path(self.clusters_directory).iterdir():
            if workdir.name not in kept:
                await asyncio.to_thread(_remove, workdir)

    def get_env(self, cluster: Any) -> dict[str, str]:
        """Let Dask spill into the cluster's own folder, which is removed with it."""
        workdir = cluster.state["workdir"]
        return {**super().get_env(cluster), "DASK_TEMPORARY_DIRECTORY": workdir}

    def get_scheduler_command(self, cluster: Any) -> list[str]:
        """Add our watch to the scheduler, in place of Gateway's, which ignores clients."""
        preload = ["--preload", "daskenv_lab.providers.scheduler_watch"]
        return [*super().get_scheduler_command(cluster), *preload]

    async def do_stop_cluster(self, cluster: Any) -> None:
        """Stop a cluster, keep the log of one that never ran, and leave no process behind."""
        workdir = Path(cluster.state.get("workdir") or "")
        if not cluster.scheduler_address and workdir.name:
            log = last_lines(workdir / "logs" / "scheduler.log", 40)
            kept = Path(self.clusters_directory).with_name(FAILED) / f"{cluster.name}.log"
            kept.parent.mkdir(mode=0o700, exist_ok=True)
            kept.write_text(log, encoding="utf-8")
        if pid := cluster.state.get("pid"):
            await self.stop_process(pid)
        if workdir.name:
            await asyncio.to_thread(_remove, workdir)

    async def stop_process(self, pid: int) -> None:
        """Stop a process of a cluster, unless its number belongs to another one by now."""
        process = self._own(pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if process is None:
                return
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
            patience = time.monotonic() + 5
            while (process := self._own(pid)) and time.monotonic() < patience:
                await asyncio.sleep(0.05)

    def _own(self, pid: int) -> psutil.Process | None:
        try:
            process = psutil.Process(pid)
            inside = os.path.realpath(self.clusters_directory)
            if process.status() == psutil.STATUS_ZOMBIE or not process.cwd().startswith(inside):
                return None
        except psutil.Error:
            return None
        return process

    def _runs(self, cluster: Any) -> bool:
        return self._own(cluster.state.get("pid") or 0) is not None

    async def _check_timeouts(self) -> None:
        """Pardon clusters that were silent because the whole machine was asleep."""
        now = timestamp()
        asleep = now - getattr(self, "_checked", now) > 3000 * self.check_timeouts_period
        self._checked = now
        if asleep:
            for cluster in self.db.active_clusters():
                cluster.last_heartbeat = now
        await super()._check_timeouts()

    async def do_check_clusters(self, clusters: list[Any]) -> list[bool]:
        """Tell which of the starting clusters still have a process."""
        return [self._runs(c) for c in clusters]


class EmbeddedGateway(DaskGateway):
    """The server, which writes its record when it can be reached, and ends when it is idle."""

    record_file = Unicode(config=True)
    password = Unicode(config=True)
    encrypt_key = Unicode(config=True)
    public_port = Unicode(config=True)
    idle_timeout = Float(config=True, help="Seconds without clusters; 0 means for ever.")

    async def setup(self) -> None:
        """Start everything; only then tell where it is."""
        await super().setup()
        await self._reached_through_proxy()
        started = Background.current()
        record = {
            "schema": 1,
            "address": f"http://127.0.0.1:{self.public_port}",
            "port": int(self.public_port),
            "password": self.password,
            "encrypt_key": self.encrypt_key,
            "pid": started.pid,
            "started": started.started,
            "executable": sys.executable,
        }
        write_record(Path(self.record_file), record)
        if self.idle_timeout:
            self._watch = asyncio.create_task(self._end_when_idle())

    async def _reached_through_proxy(self) -> None:
        url = f"http://127.0.0.1:{self.public_port}/api/health"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as session:
            for _ in range(300):
                if self.backend.proxy.proxy_process.poll() is not None:
                    raise RuntimeError(f"the proxy cannot listen on port {self.public_port}")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)
        raise RuntimeError(f"the proxy does not answer on port {self.public_port}")

    async def _end_when_idle(self) -> None:
        used = time.monotonic()
        while time.monotonic() - used < self.idle_timeout:
            await asyncio.sleep(min(10.0, self.idle_timeout / 4))
            if any(self.backend.db.active_clusters()):
                used = time.monotonic()
        self.log.warning("No clusters for %g seconds, ending", self.idle_timeout)
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run the server until it is told to end."""
    parser = argparse.ArgumentParser(prog="daskenv_lab.providers.gateway_server")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--idle-timeout", type=float, default=0.0)
    given = parser.parse_args()
    os.umask(0o077)
    # Whoever started us may have been killed, and another start us again: one may run.
    try:
        alone = filelock.FileLock(given.folder / LOCK, mode=0o600).acquire(timeout=30)
    except filelock.Timeout:
        raise SystemExit(f"another server runs in {given.folder}") from None
    with alone:
        app = EmbeddedGateway(config=_config(given.folder, given.port, given.idle_timeout))
        app.initialize([])
        app.start()


def _config(folder: Path, wanted_port: int, idle_timeout: float) -> Config:
    before = read_record(folder / RECORD)
    key = before.get("encrypt_key")
    if not isinstance(key, str):
        # Without its key the database cannot be read; the clusters in it are ended.
        (folder / "clusters.sqlite").unlink(missing_ok=True)
        key = base64.b64encode(secrets.token_bytes(32)).decode()
    port = _port(wanted_port or before.get("port"), strict=bool(wanted_port))
    (folder / CLUSTERS).mkdir(mode=0o700, exist_ok=True)
    shutil.rmtree(folder / FAILED, ignore_errors=True)

    c = Config()
    c.DaskGateway.backend_class = EmbeddedBackend
    c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
    c.DaskGateway.config_file = ""
    c.EmbeddedGateway.record_file = str(folder / RECORD)
    c.EmbeddedGateway.password = before.get("password") or secrets.token_urlsafe(24)
    c.EmbeddedGateway.encrypt_key = key
    c.EmbeddedGateway.public_port = str(port)
    c.EmbeddedGateway.idle_timeout = idle_timeout
    c.SimpleAuthenticator.password = c.EmbeddedGateway.password
    c.Proxy.address = f"127.0.0.1:{port}"
    c.Proxy.proxy_status_period = 2.0
    c.EmbeddedBackend.resumes = port == before.get("port")
    c.EmbeddedBackend.clusters_directory = str(folder / CLUSTERS)
    c.EmbeddedBackend.db_url = f"sqlite:///{folder / 'clusters.sqlite'}"
    c.EmbeddedBackend.db_encrypt_keys = [key]
    c.EmbeddedBackend.cluster_options = _options()
    c.EmbeddedBackend.cluster_status_period = 2.0
    c.EmbeddedBackend.worker_status_period = 5.0
    c.EmbeddedBackend.cluster_start_timeout = 600.0
    c.EmbeddedBackend.cluster_heartbeat_timeout = 60.0
    c.EmbeddedBackend.inherited_environment = [
        name for name in config.process_variables() if not name.startswith(_NOT_INHERITED)
    ]
    c.ClusterConfig.scheduler_cmd = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    c.ClusterConfig.worker_cmd = [sys.executable, "-m", "distributed.cli.dask_worker"]
    return c


def _options() -> Options:
    threads = config.whole("local.worker-threads")
    return Options(
        Integer("worker_threads", default=threads, min=1, label="Threads of each worker"),
        String("worker_memory", default=str(config.get("local.worker-memory")), label="Memory"),
        String("idle_timeout", default=str(config.get("local.idle-timeout")), label="Idle timeout"),
        Mapping("environment", default={}, label="Process variables"),
        handler=_cluster_config,
    )


def _cluster_config(options: Any) -> dict[str, Any]:
    given = options.environment
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in given.items()):
        raise ValueError("environment must map names to texts")
    return {
        "worker_threads": options.worker_threads,
        "worker_memory": _parsed(parse_bytes, "worker_memory", options.worker_memory),
        "idle_timeout": float(_parsed(parse_timedelta, "idle_timeout", options.idle_timeout)),
        "environment": dict(given),
    }


def _parsed(parse: Any, name: str, text: str) -> Any:
    try:
        value = parse(text)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name} is {text!r}, which cannot be read") from error
    if value < 0:
        raise ValueError(f"{name} is {text!r}, and must not be negative")
    return value


def _port(wanted: Any, *, strict: bool) -> int:
    """Give the wanted port, waiting a little for a proxy that is ending, or a free one."""
    patience = time.monotonic() + 3
    while isinstance(wanted, int):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", wanted))
            return wanted
        if time.monotonic() > patience:
            break
        time.sleep(0.1)
    if strict:
        raise SystemExit(f"port {wanted} is taken; change daskenv.local.port, or set it to 0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _remove(workdir: Path) -> None:
    """End what still runs in a cluster's folder, and remove it."""
    end_all(processes_under(workdir), patience=2)
    shutil.rmtree(workdir, ignore_errors=True)


if __name__ == "__main__":
    main()
