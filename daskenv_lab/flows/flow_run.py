"""`run`: one flow run on a running cluster, and the report of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.exceptions import (
    ParameterBindError,
    ParameterTypeError,
    SignatureMismatchError,
)
from prefect.utilities.callables import get_call_parameters

from daskenv_lab import config, history
from daskenv_lab.errors import (
    ClusterGone,
    FlowError,
    FlowParameterError,
    ProviderError,
    StateError,
    did_you_mean,
)
from daskenv_lab.flows.api import prefect_api
from daskenv_lab.flows.executor import DaskExecutor
from daskenv_lab.flows.measure import Measurement
from daskenv_lab.flows.prefect3 import events_to_this_api
from daskenv_lab.flows.progress import Progress, progress_of
from daskenv_lab.flows.recorded import measures_of
from daskenv_lab.flows.stopping import cancelled, stoppable
from daskenv_lab.flows.sync import gather, send
from daskenv_lab.flows.target import reach
from daskenv_lab.flows.unfinished import end_orphans
from daskenv_lab.packages.compare import news, refuse_other_python
from daskenv_lab.report import FlowRunReport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prefect.client.schemas.objects import State

    from daskenv_lab.cluster import ClusterInfo
    from daskenv_lab.providers.connection import Connection

_log = logging.getLogger("daskenv_lab")
INTERRUPTED = 20.0
"""Seconds that an interrupted asynchronous flow is given to end its task runs."""


def run(
    flow: Flow[..., Any], /, *, _on: Any = None, _progress: Any = None, **parameters: Any
) -> FlowRunReport:
    """Run a flow on a running cluster and report on it.

    Parameters
    ----------
    flow : prefect.Flow
        A synchronous or asynchronous flow; it need not name a task runner.
    **parameters
        The flow's parameters, by name. (The two arguments that are not the flow's begin with
        an underscore, so that they never hide one of its parameters.)
    _on : optional
        The cluster, as `DaskExecutor` takes it; by default the one named by ``daskenv.name``.
    _progress : optional
        A function that takes sentences, or False for silence; by default a bar or lines.

    Returns
    -------
    FlowRunReport
        The result or error, and what the run used. A flow that fails does not raise here.

    Raises
    ------
    FlowParameterError
        The parameters do not fit the flow.
    ProviderError, UnknownNameError
        The cluster is not reached.
    PrefectApiError
        The Prefect API is not reached.

    Examples
    --------
    >>> run(add_up, x=[1, 2, 3]).result  # doctest: +SKIP
    12
    """
    return run_flow(flow, parameters, on=_on, progress=_progress)


def run_flow(
    flow: Flow[..., Any],
    parameters: Mapping[str, Any],
    *,
    on: Any = None,
    progress: Any = None,
) -> FlowRunReport:
    """Run a flow as `run` does, with its parameters in a mapping.

    Examples
    --------
    >>> run_flow(add_up, {"x": [1, 2, 3]}, on="dev").ok  # doctest: +SKIP
    True
    """
    if not isinstance(flow, Flow):
        raise FlowError(f"{flow!r} is no flow; decorate the function with `@prefect.flow`")
    code = gather(flow)
    given = check_parameters(flow, parameters)
    with contextlib.ExitStack() as stack:
        shown = progress_of(progress)
        stack.callback(shown.close)
        connection, ours = reach(config.cluster_name(None) if on is None else on)
        if ours:
            stack.callback(connection.close)
        _tell_packages(connection, _await_workers(connection, shown), flow, shown)
        for sentence in send(connection.client, code).sentences:
            shown.note(sentence)
        stack.enter_context(prefect_api(shown.say))
        stack.enter_context(events_to_this_api())
        for orphan in end_orphans():
            shown.say(f"The flow run {orphan} was left by a process that died; it is Crashed now")
        cluster = _cluster_name(connection)
        executor = DaskExecutor(connection)
        with Measurement(connection) as measurement, stoppable(connection.client) as call:
            executor.listeners += [measurement.listen, shown.task]
            measurement.waits = executor.note_waits()
            runner = cast("Any", executor)
            try:
                state, error = call_flow(flow.with_options(task_runner=runner), given)
            except (KeyboardInterrupt, asyncio.CancelledError):
                if not call.stopped:
                    raise
                state, error = cancelled(next(iter(executor.begun), None)), None
        report = _report(flow, given, state, error, cluster=cluster, measurement=measurement)
    _keep(report)
    return report


def check_parameters(flow: Flow[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Check parameters as Prefect will, before anything is started.

    Raises
    ------
    FlowParameterError
        One is missing, unknown or of the wrong type.
    """
    known = inspect.signature(flow.fn).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in known.values())
    for name in parameters:
        if name not in known and not free:
            raise FlowParameterError(
                f"the flow {flow.name!r} has no parameter {name!r}; {did_you_mean(name, known)}"
            )
    try:
        bound = get_call_parameters(flow.fn, (), dict(parameters))
        if flow.should_validate_parameters:
            with _quietly("prefect.flows"):
                flow.validate_parameters(bound)
    except (ParameterBindError, ParameterTypeError, SignatureMismatchError, TypeError) as error:
        told = " ".join(str(error).split())
        raise FlowParameterError(f"the flow {flow.name!r} cannot take these: {told}") from error
    return dict(bound)


@contextlib.contextmanager
def _quietly(name: str) -> Iterator[None]:
    """Keep a logger from telling what is told as an error."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def call_flow(flow: Flow[..., Any], parameters: dict[str, Any]) -> tuple[Any, BaseException | None]:
    """Call a flow of either kind; give its final state, or what came instead of one."""
    try:
        if not flow.isasync:
            return flow(**parameters, return_state=True), None
        return _run_async(flow, parameters), None
    except Exception as error:  # noqa: BLE001 - a flow raises what it likes; the report holds it
        return None, error


def _run_async(flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
    """Run an asynchronous flow in a thread of its own: a notebook's loop runs in this one."""
    outcome: dict[str, Any] = {}
    loop_of: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def call() -> Any:
        task = asyncio.current_task()
        if task is not None:
            loop_of.append((asyncio.get_running_loop(), task))
        return await cast("Any", flow)(**parameters, return_state=True)

    # Thread.join, interrupted once, takes a thread that runs for one that has ended (Python 3.11).
    over = threading.Event()

    def work() -> None:
        try:
            outcome["state"] = asyncio.run(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            outcome["error"] = error
        finally:
            over.set()

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), daemon=True)
    thread.start()
    try:
        while not over.wait(0.2):
            pass
    except BaseException:
        for loop, task in loop_of:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
        over.wait(INTERRUPTED)
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["state"]


def _await_workers(connection: Connection, shown: Progress) -> ClusterInfo:
    limit = config.seconds("timeouts.workers")
    began = time.monotonic()
    told = -1
    while not (info := connection.info()).n_workers:
        if info.adaptive:
            return info
        if info.requested == 0:
            raise ProviderError(
                f"the cluster at {connection.address} has no workers and none was asked for; "
                "ask for some with `daskenv scale 2`"
            )
        waited = time.monotonic() - began
        if waited > limit:
            raise ProviderError(
                f"no worker came within {waited:.0f} s ({_wanted(info)}); look at `daskenv logs`, "
                "or allow more with daskenv.timeouts.workers"
            )
        if int(waited) > told:
            told = int(waited)
            shown.say(f"Waiting for workers ({_wanted(info)}) … {told} s")
        time.sleep(0.1)
    return info


def _tell_packages(
    connection: Connection, info: ClusterInfo, flow: Flow[..., Any], shown: Progress
) -> None:
    """Say what differs of the packages that the flow needs, once for each connection."""
    workers = [worker.address for worker in info.workers]
    report = news(connection, workers, [flow])
    refuse_other_python(connection, workers)
    if report is not None:
        told = "; ".join(str(trouble) for trouble in report.troubles)
        shown.note(f"Packages differ: {told}; see `daskenv packages`")


def _wanted(info: ClusterInfo) -> str:
    return f"{info.requested} asked for" if info.requested else "none has come yet"


def _report(
    flow: Flow[..., Any],
    parameters: Mapping[str, Any],
    state: State[Any] | None,
    error: BaseException | None,
    *,
    cluster: str,
    measurement: Measurement,
) -> FlowRunReport:
    value = None
    if state is not None:
        value, error = _outcome(state)
    flow_run_id = str(state.state_details.flow_run_id or "") if state is not None else ""
    name, url = _name_and_page(flow_run_id)
    task_runs = measurement.task_runs
    return FlowRunReport(
        flow=flow.name,
        flow_run_id=flow_run_id,
        flow_run_name=name,
        state=(state.name or state.type.value.title()) if state is not None else "Crashed",
        cluster=cluster,
        start=measurement.start,
        duration=measurement.duration,
        value=value,
        error=error,
        task_runs=task_runs,
        waits=measurement.client_waits(task_runs),
        workers=measurement.workers,
        bandwidth=measurement.bandwidth,
        measures=measures_of(parameters),
        ticks=not flow.isasync,
        bytes_moved=measurement.bytes_moved,
        peak_memory=measurement.peak_memory,
        cluster_size=tuple(measurement.cluster_size),
        url=url,
    )


def _keep(report: FlowRunReport) -> None:
    """Keep the report for the panels and later comparisons; a full disk fails no flow run."""
    try:
        history.keep(report)
    except StateError as error:
        _log.warning("%s", error)


def _outcome(state: Any) -> tuple[Any, BaseException | None]:
    try:
        value = state.result(raise_on_failure=False, _sync=True)
    except Exception as error:  # noqa: BLE001 - a result that is lost or unfinished
        return None, error
    if state.is_completed():
        return value, None
    if isinstance(value, BaseException):
        return None, value
    try:
        state.result(_sync=True)
    except Exception as error:  # noqa: BLE001 - what the flow's failure holds
        return None, error
    return None, None


def _name_and_page(flow_run_id: str) -> tuple[str, str | None]:
    from prefect.utilities.urls import url_for

    if not flow_run_id:
        return "", None
    try:
        with get_client(sync_client=True) as client:
            flow_run = client.read_flow_run(flow_run_id)  # type: ignore[arg-type]
        return flow_run.name, url_for(flow_run)
    except Exception:  # noqa: BLE001 - the report is worth more than the name in it
        return flow_run_id, None


def _cluster_name(connection: Connection) -> str:
    with contextlib.suppress(ProviderError, ClusterGone):
        if name := connection.label().get("name"):
            return str(name)
    return connection.address
