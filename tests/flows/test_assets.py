"""Assets: what tasks make and build on is told as with prefect-dask."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from distributed import LocalCluster
from prefect import flow
from prefect.assets import Asset, materialize
from prefect.client.orchestration import get_client
from prefect.context import get_run_context
from prefect_dask import DaskTaskRunner

from daskenv_lab import DaskExecutor

RAW, CLEAN = Asset(key="s3://example/raw"), Asset(key="s3://example/clean")


@materialize(RAW)
def extract() -> int:
    """Make the first asset."""
    return 50


@materialize(CLEAN)
def load(rows: int) -> int:
    """Make the second out of the first."""
    return rows * 2


@flow
def pipeline() -> str:
    """Make both."""
    load.submit(extract.submit()).wait()  # type: ignore[arg-type]
    return str(get_run_context().flow_run.id)  # type: ignore[union-attr]


def asset_events(flow_run_id: str, n: int) -> set[tuple[str, str]]:
    """Read what the API was told of assets, once it is as much as expected."""
    chosen = {
        "event": {"prefix": ["prefect.asset."]},
        "related": {"id": [f"prefect.flow-run.{flow_run_id}"]},
    }
    deadline = time.monotonic() + 20
    while True:
        with get_client(sync_client=True) as client:
            events = client._client.post("/events/filter", json={"filter": chosen}).json()["events"]
        if len(events) >= n or time.monotonic() > deadline:
            return {(e["event"], e["resource"]["prefect.resource.id"]) for e in events}
        time.sleep(0.5)


def prefect_dask(cluster: LocalCluster) -> DaskTaskRunner:
    """Give the task runner to compare with."""
    security = {"security": cluster.security}
    return DaskTaskRunner(address=cluster.scheduler_address, client_kwargs=security)


@pytest.mark.parametrize("runner", [DaskExecutor, prefect_dask])
def test_assets_and_what_they_are_made_of(
    runner: Callable[[LocalCluster], Any], cluster: LocalCluster, api: str
) -> None:
    """Both assets are told as made, and the first as referenced by the second."""
    chosen = runner(cluster)
    flow_run_id = pipeline.with_options(task_runner=chosen)()
    assert asset_events(flow_run_id, 3) == {
        ("prefect.asset.materialization.succeeded", RAW.key),
        ("prefect.asset.materialization.succeeded", CLEAN.key),
        ("prefect.asset.referenced", RAW.key),
    }
