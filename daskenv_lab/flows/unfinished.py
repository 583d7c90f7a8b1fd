"""Flow runs whose process died: the next run notices them, and ends them at the API.

While a flow run uses a cluster, a small file names it and its process. A process that is killed
leaves the file, and at the API a flow run that would stay Running for ever.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
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
from daskenv_lab.bounded import in_background
from daskenv_lab.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_UNFINISHED = [type_ for type_ in StateType if type_ not in TERMINAL_STATES]

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
    """Put the flow runs of dead processes into the state Crashed, and then their task runs.

    Of these there may be thousands, which take a Prefect server minutes: that goes on in the
    background, and where it does not come to its end, with the next flow run.

    Returns
    -------
    list of str
        The ids of the flow runs that had to be ended at the current API.
    """
    ended = []
    crashed = []
    for path in _folder().glob("*.json"):
        written = read_record(path)
        if recorded_process(written) is not None:
            continue
        if written.get("api") == PREFECT_API_URL.value():
            state = _end(path.stem)
            if state == "ended":
                ended.append(path.stem)
            if state == "over":
                path.unlink(missing_ok=True)
            else:
                crashed.append(path)
        elif time.time() - path.stat().st_mtime > KEPT:
            path.unlink(missing_ok=True)
    if crashed:
        context = contextvars.copy_context()
        in_background(lambda: context.run(_end_task_runs, crashed))
    return ended


def ended_at_api(task_run_ids: Sequence[UUID], patience: float) -> set[UUID]:
    """Give those task runs that have ended as far as the API knows.

    Parameters
    ----------
    task_run_ids : sequence of UUID
        The task runs.
    patience : float
        Seconds to wait until the API knows it of all.
    """
    # The API gives 200 at a time.
    parts = [list(task_run_ids[i : i + 200]) for i in range(0, len(task_run_ids), 200)]
    deadline = time.monotonic() + patience
    ended: set[UUID] = set()
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        while len(ended) < len(task_run_ids) and time.monotonic() < deadline:
            for part in parts:
                asked = TaskRunFilter(id=TaskRunFilterId(any_=part))
                found = client.read_task_runs(task_run_filter=asked)
                ended.update(run.id for run in found if run.state and run.state.is_final())
            time.sleep(0.2)
    return ended


def end_subflows(flow_run_id: UUID, message: str) -> None:
    """Put what a flow run has left unfinished into the state Crashed: flows that its tasks ran.

    Those that this process runs itself are let be, and those of deployments, which run elsewhere.
    """
    chosen = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]),
        deployment_id=FlowRunFilterDeploymentId(is_null_=True),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED)),
    )
    with get_client(sync_client=True) as client:
        for flow_run in client.read_flow_runs(flow_run_filter=chosen):
            if not (_folder() / f"{flow_run.id}.json").exists():
                end_subflows(flow_run.id, message)
                client.set_flow_run_state(flow_run.id, Crashed(message=message), force=True)


def _end(flow_run_id: str) -> Literal["ended", "ended before", "over"]:
    """End a flow run that goes on; say whether it was ended so before, or came to an end itself."""
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound, ValueError):
        flow_run = client.read_flow_run(UUID(flow_run_id))
        if flow_run.state is None or not flow_run.state.is_final():
            client.set_flow_run_state(flow_run.id, Crashed(message=MESSAGE), force=True)
            return "ended"
        return "ended before" if flow_run.state.message == MESSAGE else "over"
    return "over"


def _end_task_runs(notes: Iterable[Path]) -> None:
    """End what ended flow runs left unfinished, and delete their notes.

    It comes after the flow run's own end: the API takes no task run's state from a flow run that
    goes on.
    """
    unfinished = TaskRunFilter(
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED))
    )
    with get_client(sync_client=True) as client:
        for note in notes:
            chosen = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(note.stem)]))
            ended: set[UUID] = set()
            # The API gives 200 at a time.
            while left := [
                task_run
                for task_run in client.read_task_runs(
                    flow_run_filter=chosen, task_run_filter=unfinished
                )
                if task_run.id not in ended
            ]:
                for task_run in left:
                    client.set_task_run_state(task_run.id, Crashed(message=MESSAGE), force=True)
                    ended.add(task_run.id)
            note.unlink(missing_ok=True)


def _folder() -> Path:
    folder = config.state_dir() / "flow-runs"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder
