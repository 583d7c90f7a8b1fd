"""The embedded Gateway as a background server: found again, replaced, resumed, ended."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest

from daskenv_lab.background import processes_under
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.environments import DaskGatewayEnvironment
from daskenv_lab.errors import ClusterGone, ClusterStartError, StateError, WaitTimeout
from daskenv_lab.providers.local import LocalProvider, server_folder, server_status, stop_server
from tests.waiting import until

# An option that no Gateway has: the server is started, and then refuses.
STARTS_SERVER = (
    "from daskenv_lab.environments import DaskGatewayEnvironment\n"
    "from daskenv_lab.errors import ClusterStartError\n"
    "from daskenv_lab.providers.local import LocalProvider, server_status\n"
    "environment = DaskGatewayEnvironment('local', bogus=1)\n"
    "try:\n"
    "    LocalProvider(environment).create(\n"
    "        'x', timeout=120, progress=str, on_submitted=lambda _: None)\n"
    "except ClusterStartError as error:\n"
    "    assert 'bogus' in str(error), error\n"
    "print(server_status()[0]['pid'])\n"
)


def _create(timeout: float = 60.0, **options: Any) -> tuple[LocalProvider, ClusterRef]:
    provider = LocalProvider(DaskGatewayEnvironment("local", **options))
    ref = provider.create(
        "dev", timeout=timeout, progress=lambda _: None, on_submitted=lambda _: None
    )
    return provider, ref


def _start_server() -> dict[str, Any]:
    with pytest.raises(ClusterStartError, match="'bogus'"):
        _create(bogus=1)
    (status,) = server_status()
    return status


def _is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_nothing_is_started_by_looking(own_state: Path) -> None:
    """`find`, `server_status` and `stop_server` are harmless where nothing runs."""
    assert LocalProvider(DaskGatewayEnvironment("local")).find() == []
    assert server_status() == []
    assert stop_server(timeout=5) == 0


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """A file in the place of the state folder is named, with the way out."""
    (tmp_path / "file").write_text("")
    keys = {"daskenv.state-dir": str(tmp_path / "file" / "state")}
    with dask.config.set(keys), pytest.raises(StateError, match="DASK_DASKENV__STATE_DIR"):
        _create(timeout=5)


def test_a_cluster_of_a_server_that_is_gone(own_state: Path) -> None:
    """Without a server and without processes, a reference is gone at once."""
    ref = ClusterRef(provider="local", id="0" * 32, location=str(server_folder()))
    with pytest.raises(ClusterGone, match="daskenv up"):
        LocalProvider(DaskGatewayEnvironment("local")).connect(ref, timeout=5)


@pytest.mark.slow
def test_files_are_private_and_the_password_is_in_one(own_state: Path) -> None:
    """Only this user can read the record, and no log, argument or status holds the password."""
    status = _start_server()
    folder = Path(status["folder"])
    record = json.loads((folder / "server.json").read_text())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        if path.is_file() and path.name != "server.json":
            for secret in (record["password"], record["encrypt_key"]):
                assert secret.encode() not in path.read_bytes(), path
    told = json.dumps(status) + " ".join(psutil.Process(status["pid"]).cmdline())
    assert record["password"] not in told
    assert "password" not in status


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "nonsense", "dead pid", "another's pid", "list"])
def test_a_stale_or_damaged_record_is_replaced(own_state: Path, damage: str) -> None:
    """A record that names no living server of ours makes room for a new server."""
    folder = server_folder()
    folder.mkdir(parents=True, mode=0o700)
    record = {"schema": 1, "address": "http://127.0.0.1:1", "port": 1, "password": "p"}
    written = {
        "cut": json.dumps(record)[:20],
        "nonsense": "\x00\xff",
        "dead pid": json.dumps({**record, "pid": 2**22 - 7, "started": 1.0}),
        "another's pid": json.dumps({**record, "pid": os.getpid(), "started": 1.0}),
        "list": "[]",
    }
    (folder / "server.json").write_text(written[damage])
    assert server_status() == []
    status = _start_server()
    assert _is_alive(status["pid"])


@pytest.mark.slow
def test_ten_starts_at_once_make_one_server(own_state: Path) -> None:
    """However many processes want the server, there is one."""
    env = {**os.environ, "DASK_DASKENV__STATE_DIR": str(own_state)}
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTS_SERVER],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(10)
    ]
    answers = [process.communicate(timeout=150) for process in starters]
    assert all(process.returncode == 0 for process in starters), answers
    assert len({out.strip() for out, _ in answers}) == 1
    assert len(server_status()) == 1


@pytest.mark.slow
def test_a_starter_that_is_killed(own_state: Path) -> None:
    """After kill -9 in the middle of a start, the next one still makes a single server."""
    script = STARTS_SERVER.replace("progress=str", "progress=lambda s: print(s, flush=True)")
    env = {**os.environ, "DASK_DASKENV__STATE_DIR": str(own_state)}
    starter = subprocess.Popen(
        [sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    assert "starting" in starter.stdout.readline()
    time.sleep(0.3)
    starter.kill()
    starter.communicate(timeout=120)
    _start_server()
    servers = [p for p in processes_under(own_state) if "-m" in p.cmdline()]
    # The one that came second waits 30 s for the first one's lock, and ends.
    until(
        lambda: [p.pid for p in servers if _is_alive(p.pid)] == [server_status()[0]["pid"]],
        seconds=45,
    )


@pytest.mark.slow
def test_a_killed_server_finds_its_clusters_again(own_state: Path) -> None:
    """After kill -9, connecting starts the server again, and the same scheduler answers."""
    provider, ref = _create()
    connection = provider.connect(ref, timeout=120)
    provider.scale(connection, 1)
    connection.client.wait_for_workers(1, timeout=120)
    scheduler = connection.describe()["id"]
    before = server_status()[0]
    os.kill(before["pid"], signal.SIGKILL)
    provider.close(connection)
    until(lambda: server_status() == [])
    again = provider.connect(ref, timeout=60)
    assert again.describe()["id"] == scheduler
    assert again.client.submit(sum, [1, 2]).result(120) == 3
    after = server_status()[0]
    assert after["address"] == before["address"]
    assert after["pid"] != before["pid"]
    provider.scale(again, 2)
    again.client.wait_for_workers(2, timeout=120)
    provider.close(again)
    provider.shutdown(ref, timeout=120)
    assert processes_under(Path(ref.location) / "clusters") == []
    assert list((Path(ref.location) / "clusters").iterdir()) == []


@pytest.mark.slow
def test_a_killed_proxy_is_waited_for(own_state: Path) -> None:
    """Connections break with the proxy; the server starts another, and they come back."""
    provider, ref = _create()
    connection = provider.connect(ref, timeout=120)
    scheduler = connection.describe()["id"]
    server = psutil.Process(server_status()[0]["pid"])
    children = set(server.children())
    (proxy,) = [p for p in children if "proxy" in p.name()]
    proxy.kill()
    # It may be back before anybody sees the connection closed; what follows needs the new one.
    until(lambda: set(server.children()) - children)
    with dask.config.set({"daskenv.timeouts.reconnect": "2 minutes"}):
        assert connection.describe()["id"] == scheduler
    provider.close(connection)
    provider.shutdown(ref, timeout=120)


@pytest.mark.slow
def test_a_cluster_can_be_stopped_without_its_server(own_state: Path) -> None:
    """Shutting down after the server was killed leaves no process, and the next server is fine."""
    provider, ref = _create()
    os.kill(server_status()[0]["pid"], signal.SIGKILL)
    until(lambda: server_status() == [])
    provider.shutdown(ref, timeout=120)
    assert processes_under(Path(ref.location) / "clusters" / ref.id) == []
    _start_server()
    assert provider.find() == []
    with pytest.raises(ClusterGone):
        provider.connect(ref, timeout=10)


@pytest.mark.slow
def test_a_cluster_whose_server_never_comes_back_ends(
    own_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing lingers for ever after the server was killed."""
    monkeypatch.setenv("DASK_DASKENV__LOCAL__ORPHAN_TIMEOUT", "2s")
    provider, ref = _create()
    connection = provider.connect(ref, timeout=120)
    provider.scale(connection, 1)
    connection.client.wait_for_workers(1, timeout=120)
    provider.close(connection)
    os.kill(server_status()[0]["pid"], signal.SIGKILL)
    until(lambda: processes_under(Path(ref.location)) == [], 40)


@pytest.mark.slow
def test_an_idle_cluster_and_then_the_server_end(own_state: Path) -> None:
    """A connected client keeps a cluster; without one it ends, and the server after it."""
    with dask.config.set({"daskenv.local.server-idle-timeout": 3}):
        provider, ref = _create(idle_timeout=2)
    connection = provider.connect(ref, timeout=120)
    time.sleep(5)
    assert provider.info(connection).status == "running"
    provider.close(connection)
    until(lambda: provider.find() == [])
    until(lambda: server_status() == [])
    until(lambda: processes_under(Path(ref.location)) == [])


@pytest.mark.slow
def test_stopping_the_server_stops_everything(own_state: Path) -> None:
    """After `stop_server` there is no process, no password and no folder of a worker."""
    provider, ref = _create()
    connection = provider.connect(ref, timeout=120)
    provider.scale(connection, 1)
    connection.client.wait_for_workers(1, timeout=120)
    provider.close(connection)
    assert stop_server(timeout=120) == 1
    assert processes_under(own_state) == []
    assert {path.suffix for path in server_folder().iterdir()} == {".lock"}
    with pytest.raises(ClusterGone):
        provider.connect(ref, timeout=5)


@pytest.mark.slow
def test_options_of_the_embedded_gateway(own_state: Path) -> None:
    """Sizes may be numbers or text, variables reach the cluster, and nonsense is refused."""
    provider, ref = _create(worker_memory=2**30, environment={"COLOUR": "blue"})
    connection = provider.connect(ref, timeout=120)
    colour = connection.client.run_on_scheduler(lambda: __import__("os").environ["COLOUR"])
    assert colour == "blue"
    provider.close(connection)
    for bad in ({"worker_memory": "a lot"}, {"worker_threads": 0}, {"idle_timeout": "soon"}):
        with pytest.raises(ClusterStartError, match=next(iter(bad))):
            _create(**bad)
    with pytest.raises(ClusterStartError, match="'worker_threads'"):
        _create(worker_thread=2)


@pytest.mark.slow
def test_a_server_that_cannot_start_shows_its_log(own_state: Path) -> None:
    """A port that is taken is said, not waited for."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = pytest.raises(ClusterStartError, match=rf"port {port} is taken")
        with dask.config.set({"daskenv.local.port": port}), said:
            _create(timeout=60)


def test_a_time_limit_for_the_server(own_state: Path) -> None:
    """A start that takes too long ends in a sentence, and the half-started server with it."""
    with pytest.raises(WaitTimeout, match="did not start within"):
        _create(timeout=0.3)
    until(lambda: processes_under(own_state) == [])
