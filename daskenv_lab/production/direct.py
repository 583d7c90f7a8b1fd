"""Running a flow on a fresh cluster from here, as its deployment would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from prefect import Flow

from daskenv_lab.errors import FlowError
from daskenv_lab.flows.api import prefect_api
from daskenv_lab.flows.flow_run import call_flow, check_parameters
from daskenv_lab.production.runner import FlowRunExecutor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskenv_lab.environments import Environment


def execute(environment: Environment, flow: Flow[..., Any], parameters: Mapping[str, Any]) -> Any:
    """Run a flow on a fresh cluster, and give its result; see `Environment.execute`."""
    if not isinstance(flow, Flow):
        raise FlowError(f"{flow!r} is no flow; decorate the function with `@prefect.flow`")
    given = check_parameters(flow, parameters)
    with prefect_api():
        runner = cast("Any", FlowRunExecutor(environment))
        state, error = call_flow(flow.with_options(task_runner=runner), given)
        if error is not None:
            raise error
        return state.result(_sync=True)
