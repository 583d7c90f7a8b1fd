"""The relay when its ends go away: the client, the API, a worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster, Security
from prefect.settings import PREFECT_API_URL, temporary_settings

from daskenv_lab.flows.relay.route import route_for
from tests.waiting import until

from .conftest import WireApi, door_of

OTHER = """
import json, sys, time
import dask
from distributed import Client, Security
from prefect.settings import PREFECT_API_URL, temporary_settings
from daskenv_lab.flows.relay.route import route_for

address, api, tls = json.loads(sys.argv[1])
with dask.config.set({"daskenv.prefect.route": "relay"}):
    client = Client(address, security=Security(**tls), set_as_default=False)
    with temporary_settings({PREFECT_API_URL: api}):
        print(json.dumps(route_for(client).written()), flush=True)
while True:
    # Busy with something else.
    sum(range(10_000))
"""


def ask_often(written: dict[str, Any], paths: list[str], door: Any) -> list[tuple[int, str, float]]:
    """Make calls one after the other from inside a task; give each one's status, text and time."""
    import httpx

    url, token = door(written)
    answers = []
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        for path in paths:
            began = time.monotonic()
            answer = http.get(url + path)
            answers.append((answer.status_code, answer.text, time.monotonic() - began))
    return answers


ask_often.__module__ = "__main__"


def test_client_that_is_killed(
    cluster: LocalCluster, client: Client, security: Security, wire: WireApi, tmp_path: Path
) -> None:
    """A busy client is served; once it is killed, calls end at once with one clear sentence."""
    tls = {
        "tls_ca_file": security.tls_ca_file,
        "tls_client_cert": security.tls_client_cert,
        "tls_client_key": security.tls_client_key,
        "require_encryption": True,
    }
    script = tmp_path / "other.py"
    script.write_text(OTHER)
    arguments = json.dumps([cluster.scheduler_address, wire.url, tls])
    other = subprocess.Popen(
        [sys.executable, str(script), arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        written = json.loads(other.stdout.readline())
        (worker, *_) = client.nthreads()
        options: dict[str, Any] = {"workers": [worker], "pure": False}
        served = client.submit(ask_often, written, ["/x"], door_of, **options).result(timeout=120)
        assert served[0][0] == 200
        pending = client.submit(ask_often, written, ["/slow", "/x"], door_of, **options)
        until(lambda: any(uri == "/api/slow" for _, uri, *_ in wire.asked))
    finally:
        other.kill()
        other.wait(120)
    answers = pending.result(timeout=120)
    assert [status for status, *_ in answers] == [410, 410]
    assert "run the flow again" in answers[0][1]
    assert all(seconds < 15 for *_, seconds in answers)
    logged = client.get_worker_logs(workers=[worker])[worker]
    assert len([line for _, line in logged if "Prefect API cannot be reached" in line]) == 1


def test_client_that_is_closed(
    cluster: LocalCluster, client: Client, wire: WireApi, relayed: None
) -> None:
    """After the client is closed its APIs cannot be asked any more."""
    with (
        Client(cluster, set_as_default=False) as other,
        temporary_settings({PREFECT_API_URL: wire.url}),
    ):
        written = route_for(other).written()
    (answer,) = client.submit(ask_often, written, ["/x"], door_of, pure=False).result(timeout=120)
    assert answer[0] == 410
    assert other.id in answer[1]
    assert not wire.asked


def test_api_that_is_down(client: Client, relayed: None) -> None:
    """An API that does not answer gives a status that Prefect tries again."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        written = route_for(client).written()
    (answer,) = client.submit(ask_often, written, ["/x"], door_of, pure=False).result(timeout=120)
    assert answer[0] == 502
    assert "http://127.0.0.1:1/api" in answer[1]


def test_worker_that_ends_or_dies(security: Security, wire: WireApi, relayed: None) -> None:
    """What a killed worker asked for is dropped; one that ends closes its forwarder."""
    with (
        LocalCluster(
            n_workers=1, security=security, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        temporary_settings({PREFECT_API_URL: wire.url}),
    ):
        written = route_for(client).written()
        slow = client.submit(ask_often, written, ["/slow"], door_of, pure=False)
        until(lambda: any(uri == "/api/slow" for _, uri, *_ in wire.asked))
        (worker,) = client.run(_pid).values()
        os.kill(worker, signal.SIGKILL)
        slow.cancel()
        until(lambda: wire.hung_up == 1)
        client.wait_for_workers(1, timeout=120)
        url, _ = client.submit(door_of, written, pure=False).result(timeout=120)
        port = int(url.split(":")[2].split("/")[0])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        cluster.scale(0)
        until(lambda: not client.nthreads() and not _listens(port))


def _pid() -> int:
    return os.getpid()


_pid.__module__ = "__main__"


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
