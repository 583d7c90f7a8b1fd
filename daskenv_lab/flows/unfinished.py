"""Flow runs whose process died: the next run notices them, and ends them at the API.

While a flow run uses a cluster, a small file names it and its process. A process that is killed
leaves the file, and at the API a flow run that would stay Running for ever.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed

from daskenv_lab import config
from daskenv_lab.background import (
    Background,
    read_record,
    recorded_process,
    write_record,
)
from daskenv_lab.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

KEPT = 7 * 24 * 3600.0
"""Seconds for which a note stays whose API is not used any more."""

MESSAGE = "the process that ran this flow ended without a word; it was killed, or its machine was"


def note(flow_run_id: str) -> Path:
    """Note that this process runs a flow run; delete the file when it has ended."""
    path = _folder() / f"{flow_run_id}.json"
    own = Background.current()
    # A full disk must not keep a flow from running.
    with contextlib.suppress(StateError):
        write_record(path, {"pid": own.pid, "started": own.started, "api": PREFECT_API_URL.value()})
    return path


def end_orphans() -> list[str]:
    """Put the flow runs of dead processes, and their task runs, into the state Crashed.

    Returns
    -------
    list of str
        The ids of the flow runs that had to be ended at the current API.
    """
    ended = []
    for path in _folder().glob("*.json"):
        written = read_record(path)
        if recorded_process(written) is not None:
            continue
        if written.get("api") == PREFECT_API_URL.value():
            with get_client(sync_client=True) as client:
                if _end(client, path.stem):
                    ended.append(path.stem)
            path.unlink(missing_ok=True)
        elif time.time() - path.stat().st_mtime > KEPT:
            path.unlink(missing_ok=True)
    return ended


def _end(client: SyncPrefectClient, flow_run_id: str) -> bool:
    """End a flow run that is not final, and what it left unfinished."""
    with contextlib.suppress(ObjectNotFound):
        flow_run = client.read_flow_run(flow_run_id)  # type: ignore[arg-type]
        if flow_run.state is not None and flow_run.state.is_final():
            return False
        # First the flow run: the API takes no task run's state from a flow run that goes on.
        client.set_flow_run_state(flow_run.id, Crashed(message=MESSAGE), force=True)
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
        for task_run in client.read_task_runs(flow_run_filter=chosen):
            if task_run.state is not None and not task_run.state.is_final():
                client.set_task_run_state(task_run.id, Crashed(message=MESSAGE), force=True)
        return True
    return False


def _folder() -> Path:
    folder = config.state_dir() / "flow-runs"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder
