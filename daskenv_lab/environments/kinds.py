"""Words to environments: what `up` makes of a profile's kind, and what was written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daskenv_lab.environments.base import SCHEMA_VERSION, Environment
from daskenv_lab.environments.cloudprovider import DaskCloudProviderEnvironment
from daskenv_lab.environments.codec import decode
from daskenv_lab.environments.gateway import EMBEDDED, DaskGatewayEnvironment
from daskenv_lab.environments.remote import RemoteDaskEnvironment
from daskenv_lab.errors import EnvironmentValueError, did_you_mean

_CLASSES: dict[str, type[Environment]] = {
    cls.kind: cls
    for cls in (DaskCloudProviderEnvironment, DaskGatewayEnvironment, RemoteDaskEnvironment)
}


def environment_of_kind(kind: str, arguments: dict[str, Any]) -> Environment:
    """Make the environment for a kind: local, gateway, remote, fargate, ecs, or a dotted path.

    Raises
    ------
    EnvironmentValueError
        An argument does not fit the kind, or one is missing.

    Examples
    --------
    >>> environment_of_kind("local", {"n_workers": 2})
    DaskGatewayEnvironment(gateway_address='local', n_workers=2)
    """
    if kind == "remote" and "address" not in arguments:
        raise EnvironmentValueError(
            "the kind 'remote' needs the scheduler's address; give what is missing: "
            "address='tcp://10.0.0.5:8786'"
        )
    try:
        match kind:
            case "local":
                return DaskGatewayEnvironment(EMBEDDED, **arguments)
            case "gateway":
                return DaskGatewayEnvironment(**arguments)
            case "remote":
                return RemoteDaskEnvironment(**arguments)
            case _:
                return DaskCloudProviderEnvironment(kind, **arguments)
    except TypeError as error:
        raise EnvironmentValueError(
            f"the kind {kind!r} cannot be made from {sorted(arguments)} ({error}); "
            "give what is missing"
        ) from error


def kind_of(environment: Environment) -> tuple[str, dict[str, Any]]:
    """Give the kind and the arguments from which `environment_of_kind` makes an equal environment.

    A Gateway's address and its ``auth`` are always among them, so that no default replaces them.

    Examples
    --------
    >>> kind_of(DaskGatewayEnvironment("local", n_workers=2))
    ('local', {'n_workers': 2})
    """
    arguments = environment.arguments()
    if isinstance(environment, DaskCloudProviderEnvironment):
        path = arguments.pop("provider_class")
        return environment.short_name or path, arguments
    if isinstance(environment, RemoteDaskEnvironment):
        return "remote", arguments
    if arguments.get("gateway_address") == EMBEDDED:
        del arguments["gateway_address"]
        return "local", arguments
    return "gateway", {"gateway_address": None, "auth": None, **arguments}


def from_dict(written: Mapping[str, Any]) -> Environment:
    """Make the environment that `Environment.to_dict` wrote down.

    Raises
    ------
    EnvironmentValueError
        The mapping is not one of ours, or comes from a newer version.

    Examples
    --------
    >>> from daskenv_lab import DaskGatewayEnvironment
    >>> from_dict(DaskGatewayEnvironment("local").to_dict())
    DaskGatewayEnvironment(gateway_address='local')
    """
    if not isinstance(written, Mapping) or not isinstance(written.get("arguments"), Mapping):
        raise EnvironmentValueError(
            f"{written!r:.80} is no written environment; it needs 'schema', 'kind' and 'arguments'"
        )
    if written.get("schema") != SCHEMA_VERSION:
        raise EnvironmentValueError(
            f"the written environment has the schema {written.get('schema')!r}, and this version "
            f"reads {SCHEMA_VERSION}; update daskenv_lab"
        )
    kind = written.get("kind")
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise EnvironmentValueError(
            f"the written environment has the kind {kind!r}; {did_you_mean(str(kind), _CLASSES)}"
        )
    try:
        return _CLASSES[kind](**{k: decode(v) for k, v in written["arguments"].items()})
    except TypeError as error:
        raise EnvironmentValueError(
            f"the written environment of the kind {kind!r} is damaged ({error}); "
            "mend its arguments, or export it again"
        ) from error
