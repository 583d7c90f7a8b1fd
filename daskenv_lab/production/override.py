"""Settings that change an environment when a flow run starts, without a new image or export.

They are read where the flow runs, from the process variable ``DASKENV_ENVIRONMENT``, which a
deployment's or a flow run's job variables set (``env``), from a Prefect Variable that
``DASKENV_ENVIRONMENT_VARIABLE`` names, and from the flow run's parameter ``daskenv_environment``,
if the flow has one. The parameter is applied last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from prefect.variables import Variable

from daskenv_lab.environments import from_dict
from daskenv_lab.environments.codec import decode
from daskenv_lab.errors import EnvironmentValueError
from daskenv_lab.export import VARIABLE
from daskenv_lab.production.sizes import replaced_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daskenv_lab.environments import Environment

PREFECT_VARIABLE = "DASKENV_ENVIRONMENT_VARIABLE"
PARAMETER = "daskenv_environment"


def overridden(
    environment: Environment, parameters: Mapping[str, Any]
) -> tuple[Environment, list[str]]:
    """Apply what is set for this flow run, and name where it was set.

    A mapping with ``kind`` is a whole environment (see `Environment.to_dict`) and takes the place
    of what was there, whose hooks stay unless it has its own. Any other mapping has arguments
    to change; null takes one back to its default.

    Raises
    ------
    EnvironmentValueError
        It is no mapping, or does not fit the environment.

    Examples
    --------
    >>> from daskenv_lab import DaskGatewayEnvironment
    >>> changed, _ = overridden(
    ...     DaskGatewayEnvironment("local"), {"daskenv_environment": {"n_workers": 3}}
    ... )
    >>> changed
    DaskGatewayEnvironment(gateway_address='local', n_workers=3)
    """
    where = []
    for source, written in _given(parameters):
        try:
            environment = _changed(environment, _mapping(written))
        except (EnvironmentValueError, TypeError) as error:
            raise EnvironmentValueError(
                f"{source} cannot change the environment ({error}); give arguments of it as a JSON "
                'object, such as {"n_workers": 4}'
            ) from error
        where.append(source)
    return environment, where


def _given(parameters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if name := os.environ.get(PREFECT_VARIABLE):
        # One that is not there is no mistake: it is how an override is taken back.
        written = cast("Any", Variable).get(name, _sync=True)
        if written is not None:
            yield f"the Prefect Variable {name!r}", written
    if written := os.environ.get(VARIABLE):
        yield f"the process variable {VARIABLE}", written
    if (written := parameters.get(PARAMETER)) is not None:
        yield f"the parameter {PARAMETER}", written


def _mapping(written: Any) -> Mapping[str, Any]:
    if isinstance(written, str):
        try:
            written = json.loads(written)
        except ValueError as error:
            raise EnvironmentValueError(f"{written!r:.80} is no JSON: {error}") from error
    if not isinstance(written, Mapping):
        raise EnvironmentValueError(f"{written!r:.80} is no mapping")
    return written


def _changed(environment: Environment, written: Mapping[str, Any]) -> Environment:
    if "kind" in written:
        return from_dict(written).with_hooks_of(environment)
    changes = {name: decode(value) for name, value in written.items()}
    return environment.replace(**{**replaced_by(changes), **changes})
