"""The examples of the documents about Prefect 0.x's environments, on Prefect 3: each runs."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from daskenv_lab import registry, rehearsal
from daskenv_lab.providers.fargate.tls import Tls
from tests.providers.conftest import PASSWORD, GatewayServer

# Clusters and clean processes start slowly where several tests run at once.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Let the rehearsal answer without AWS's delays."""
    rehearsal.start(latency="none")
    yield
    rehearsal.stop(timeout=120)


@pytest.fixture(scope="session")
def gateway(gateway_server: GatewayServer) -> Iterator[GatewayServer]:
    """Tell the examples, and the worker that is started after it, where a Gateway is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEWAY_ADDRESS", gateway_server.address)
        patch.setenv("GATEWAY_PASSWORD", PASSWORD)
        yield gateway_server


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Look that no cluster of a flow run stays; a worker's process ends after its flow run."""
    yield
    deadline = time.monotonic() + 180
    while left := [name for name in registry.names() if name.startswith("flow-run-")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def _example(name: str) -> Any:
    return importlib.import_module(f"tests.documents.{name}")


@pytest.mark.slow
def test_a_fixed_number_of_workers(api: str) -> None:
    """The documents' first example, in a rehearsal of Fargate."""
    assert _example("plain").double_and_add() == 12


@pytest.mark.slow
def test_adaptive(api: str) -> None:
    """The second one."""
    assert _example("adaptive").double_and_add() == 12


@pytest.mark.slow
def test_on_execute_with_tls(api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third one: as many workers as numbers, for which the document's own formula gives 1."""
    # In the rehearsal the containers see this machine's files, as they would see their image's.
    (tmp_path / "cert.pem").write_text((made := Tls.fresh()).certificate)
    (tmp_path / "key.pem").write_text(made.key)
    monkeypatch.setenv("TLS_FOLDER", str(tmp_path))
    assert _example("sized_with_tls").double_and_add() == (6, 2)


@pytest.mark.slow
def test_a_gateway_with_adaptive_scaling(api: str, gateway: GatewayServer) -> None:
    """The fourth one, on a Gateway of somebody else's."""
    assert _example("gateway_adaptive").double_and_add() == 12


@pytest.mark.slow
def test_a_gateway_with_an_image_and_registration(
    pool: str,
    gateway: GatewayServer,
    worker: subprocess.Popen[bytes],
    ended: Callable[..., FlowRun],
) -> None:
    """The fifth one: the module registers its flow when it is run, and a worker runs it."""
    here = Path(__file__).parent
    command = [sys.executable, "gateway_registered.py"]
    subprocess.run(command, cwd=here, check=True, timeout=300, env=os.environ)
    run: Any = run_deployment("Dask Gateway Test/doc", parameters={"x": [1, 2]}, timeout=0)
    assert ended(UUID(str(run.id))).state_name == "Completed"
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("Dask Gateway Test/doc")
    assert deployment.tags == ["gateway"]
    assert "correct-horse" not in deployment.model_dump_json()
