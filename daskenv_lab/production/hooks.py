"""An environment's hooks around one flow run, and what they make of its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskenv_lab.environments import DaskGatewayEnvironment
from daskenv_lab.production.sizes import BOUNDS, FIXED, replaced_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskenv_lab.environments import Environment


def with_hook(environment: Environment, parameters: Mapping[str, Any]) -> Environment:
    """Let `on_execute` change the provider's arguments for one flow run.

    The hook is given the flow run's parameters, and a copy of what the cluster is made with: the
    further arguments, the image, and the sizes (``n_workers``, ``adaptive_min_workers``,
    ``adaptive_max_workers``) as far as they are set. A size of the one kind takes the place of
    the other kind's. The environment itself stays as it is.

    Raises
    ------
    EnvironmentValueError
        What the hook made of them does not fit the environment.

    Examples
    --------
    >>> def by_length(parameters, provider_kwargs):
    ...     provider_kwargs["n_workers"] = max(1, min(10, len(parameters["x"])))
    >>> environment = DaskGatewayEnvironment("local", on_execute=by_length)
    >>> with_hook(environment, {"x": [1, 2, 3]}).n_workers
    3
    """
    if environment.on_execute is None:
        return environment
    arguments = environment.arguments()
    before = {name: arguments.pop(name) for name in _names(environment) if name in arguments}
    after = dict(before)
    environment.on_execute(dict(parameters), after)
    return type(environment)(**arguments, **_one_kind_of_size(before, after))


def _names(environment: Environment) -> list[str]:
    own = ["image"] if isinstance(environment, DaskGatewayEnvironment) else []
    return [*environment.extra, *FIXED, *BOUNDS, *own]


def _one_kind_of_size(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {k: after.get(k) for k in (*FIXED, *BOUNDS) if after.get(k) != before.get(k)}
    kept = {k: v for k, v in after.items() if k not in replaced_by(sizes)}
    return {k: v for k, v in kept.items() if v is not None or k not in (*FIXED, *BOUNDS)}
