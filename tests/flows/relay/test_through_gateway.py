"""The relay through a real Gateway: its proxy between client and scheduler, its TLS throughout."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, temporary_settings

from daskenv_lab.environments import DaskGatewayEnvironment
from daskenv_lab.flows.relay.route import route_for
from daskenv_lab.providers.local import LocalProvider

from .conftest import KEY, WireApi, door_of


@pytest.mark.slow
def test_calls_go_through_the_proxy(wire: WireApi) -> None:
    """A task on a Gateway's cluster reaches the client's API with the client's key."""

    def call(written: dict[str, Any], door: Any) -> tuple[int, bytes]:
        import httpx

        url, token = door(written)
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.post(f"{url}/x", content=b"far", headers=headers, timeout=60)
        return answer.status_code, answer.content

    provider = LocalProvider(DaskGatewayEnvironment("local"))
    ref = provider.create(
        "relay", timeout=120, progress=lambda _: None, on_submitted=lambda _: None
    )
    try:
        connection = provider.connect(ref, timeout=60)
        try:
            provider.scale(connection, 1)
            connection.client.wait_for_workers(1, timeout=120)
            with temporary_settings({PREFECT_API_URL: wire.url, PREFECT_API_KEY: KEY}):
                written = route_for(connection.client).written()
            done = connection.client.submit(call, written, door_of, pure=False)
            assert done.result(timeout=120) == (200, b"far")
        finally:
            connection.close()
    finally:
        provider.shutdown(ref, timeout=60)
    assert wire.asked[-1][2]["authorization"] == f"Bearer {KEY}"
