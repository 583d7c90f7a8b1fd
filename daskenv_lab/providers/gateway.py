"""Clusters behind any Dask Gateway."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import dask.config
from dask_gateway.auth import BasicAuth, GatewayAuth, JupyterHubAuth, KerberosAuth, get_auth
from dask_gateway.utils import format_template

from daskenv_lab import config
from daskenv_lab.environments import DaskGatewayEnvironment, Environment
from daskenv_lab.environments.secret import mask
from daskenv_lab.errors import AuthenticationFailed, ConfigError
from daskenv_lab.providers.contract import Provider
from daskenv_lab.providers.gateway_client import GatewayClient

if TYPE_CHECKING:
    from daskenv_lab.cluster import ClusterInfo, ClusterRef
    from daskenv_lab.providers.connection import Connection
    from daskenv_lab.providers.contract import Offer, OnSubmitted, Progress

_AUTHS = {"basic": BasicAuth, "jupyterhub": JupyterHubAuth, "kerberos": KerberosAuth}


class GatewayProvider(Provider):
    """Clusters of a Dask Gateway that somebody runs.

    Examples
    --------
    >>> GatewayProvider(DaskGatewayEnvironment("https://gateway.example.org", "basic")).name
    'gateway'
    """

    name: ClassVar[str] = "gateway"

    def __init__(self, environment: Environment) -> None:
        if not isinstance(environment, DaskGatewayEnvironment):
            raise TypeError(f"{type(environment).__name__} names no Gateway")
        self.environment = environment
        address = _address(environment)
        self._gateway = GatewayClient(
            self.name,
            mask(address),
            address,
            auth=_auth(environment.auth),
            proxy_address=environment.proxy_address,
            public_address=environment.public_address,
        )

    def create(
        self, label: str, *, timeout: float, progress: Progress, on_submitted: OnSubmitted
    ) -> ClusterRef:
        """Submit a cluster and wait for it; see `Provider.create`."""
        return self._gateway.create(
            label,
            config.resolve_secrets(dict(self.environment.cluster_options)),
            timeout=timeout,
            progress=progress,
            on_submitted=on_submitted,
        )

    def connect(self, ref: ClusterRef, *, timeout: float) -> Connection:
        """Connect to a cluster, with one question to the Gateway."""
        return self._gateway.connect(
            ref,
            timeout=timeout,
            client_kwargs=config.resolve_secrets(dict(self.environment.executor_kwargs)),
        )

    def scale(self, connection: Connection, n: int) -> None:
        """Ask for `n` workers."""
        self._gateway.scale(connection.ref, n)

    def adapt(self, connection: Connection, minimum: int, maximum: int) -> None:
        """Let the number of workers follow the load."""
        self._gateway.adapt(connection.ref, minimum, maximum)

    def offers(self) -> tuple[Offer, ...]:
        """Ask the Gateway for the options that it offers."""
        return self._gateway.offers()

    def takes_image(self) -> bool:
        """Ask the Gateway whether it offers the option ``image``."""
        return any(offer.name == "image" for offer in self.offers())

    def shutdown(self, ref: ClusterRef, *, timeout: float) -> None:
        """Stop the cluster and wait until it is gone."""
        self._gateway.shutdown(ref, timeout=timeout)

    def find(self) -> list[ClusterInfo]:
        """List this user's clusters."""
        return self._gateway.find()


def _address(environment: DaskGatewayEnvironment) -> str:
    address = environment.gateway_address or format_template(dask.config.get("gateway.address"))
    if not address:
        raise ConfigError(
            "no address of a Gateway is known; give gateway_address='https://...', or set "
            "DASK_DASKENV__GATEWAY__ADDRESS or DASK_GATEWAY__ADDRESS"
        )
    return str(address)


def _auth(given: str | Mapping[str, Any] | None) -> GatewayAuth:
    """Make the object that authenticates; a word or None takes Dask's own configuration too."""
    try:
        if not isinstance(given, Mapping):
            return get_auth(given)
        arguments = config.resolve_secrets(dict(given))
        kind = arguments.pop("type")
        auth = (_AUTHS.get(kind) or _imported(kind))(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        kind = given.get("type") if isinstance(given, Mapping) else given
        raise AuthenticationFailed(
            f"authentication of the type {kind!r} cannot be set up ({error}); "
            "give auth as 'basic', 'kerberos', 'jupyterhub', or a class's dotted path"
        ) from error
    if not isinstance(auth, GatewayAuth):
        raise AuthenticationFailed(
            f"auth names {kind!r}, which is no dask_gateway.auth.GatewayAuth; "
            "use 'basic', 'kerberos', 'jupyterhub', or the dotted path of such a class"
        )
    return auth


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
