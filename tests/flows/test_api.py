"""The Prefect API on this machine: found again, damaged records, refusals."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from daskenv_lab.errors import PrefectApiError
from daskenv_lab.flows.api import (
    ensure_local_api,
    local_api_status,
    prefect_api,
    stop_local_api,
)

START = "from daskenv_lab.flows.api import ensure_local_api; print(ensure_local_api())"


def test_record_is_private_and_healthy(api: str, state_dir: Path) -> None:
    """The record tells a healthy server, and only its owner may read it."""
    status = local_api_status()
    assert status is not None
    assert status["healthy"]
    assert status["url"] == api
    assert stat.S_IMODE((state_dir / "prefect-api.json").stat().st_mode) == 0o600
    assert ensure_local_api() == api


def test_task_runs_are_recorded_in_batches(api: str) -> None:
    """Else a thousand of them keep the server busy for half a minute."""
    recorder = _recorder(api)
    assert (recorder["batch_size"], recorder["flush_interval"]) == (200, 1)


@pytest.mark.slow
def test_concurrent_starts_make_one_server(tmp_path: Path) -> None:
    """Of five processes that start at once, all get one server; a damaged record is replaced.

    What the user has set of the server's own settings is left as it is.
    """
    (tmp_path / "prefect-api.json").write_text("{")
    own = {"PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "7"}
    variables = {**os.environ, **own, "DASK_DASKENV__STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", START]
    starts = [
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    urls = {start.communicate(timeout=200)[0].strip() for start in starts}
    with dask.config.set({"daskenv.state-dir": str(tmp_path)}):
        status = local_api_status()
        assert status is not None
        recorder = _recorder(status["url"])
        assert stop_local_api(30)
        assert local_api_status() is None
    assert urls == {status["url"]}
    assert (recorder["batch_size"], recorder["flush_interval"]) == (7, 1)


def test_configured_api_that_does_not_answer() -> None:
    """An API that was configured and is down is named with the next step."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/api"
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(PrefectApiError, match="does not answer"),
        prefect_api(),
    ):
        pass


def test_local_api_may_be_forbidden(tmp_path: Path) -> None:
    """With start-local-api false, the sentence names both ways out."""
    with (
        dask.config.set({"daskenv.prefect.start-local-api": False}),
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(PrefectApiError, match="PREFECT_API_URL"),
        prefect_api(),
    ):
        pass


def _recorder(url: str) -> dict[str, Any]:
    settings = httpx.get(f"{url}/admin/settings", trust_env=False).json()
    recorder: dict[str, Any] = settings["server"]["services"]["task_run_recorder"]
    return recorder
