"""Load a deployment's flow as a flow run will, in a clean process, and tell what it is.

``python -m daskenv_lab.production.prove ENTRYPOINT FILE`` writes what it found into the file, as
JSON; what the flow's module prints goes where it goes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from daskenv_lab.production.runner import FlowRunExecutor

if TYPE_CHECKING:
    from prefect import Flow


def main(entrypoint: str, told: str) -> None:
    """Load a flow and write down its name, its parameters and its environment."""
    flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    runner = flow.task_runner
    bound = runner.environment if isinstance(runner, FlowRunExecutor) else None
    found = {
        "flow": flow.name,
        "version": flow.version,
        "description": flow.description,
        "parameters": parameter_schema(flow.fn).model_dump_for_openapi(),
        "fingerprint": bound.fingerprint if bound else None,
        "validates": flow.should_validate_parameters,
    }
    Path(told).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
