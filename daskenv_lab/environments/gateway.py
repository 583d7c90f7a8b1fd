"""An environment for a cluster behind a Dask Gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from daskenv_lab.environments.base import Environment
from daskenv_lab.environments.checks import Hook, text
from daskenv_lab.environments.secret import conceal, mask
from daskenv_lab.errors import EnvironmentValueError

EMBEDDED = "local"
"""The address that means the Gateway which daskenv_lab itself runs on this machine."""


@dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class DaskGatewayEnvironment(Environment):
    """Run flows on a cluster that a Dask Gateway makes.

    The keyword arguments are those of the ``DaskGatewayEnvironment`` written for Prefect 0.x:
    https://github.com/PrefectHQ/prefect/pull/2687

    Parameters
    ----------
    gateway_address : str, optional
        The Gateway's address; ``"local"`` is the embedded Gateway on this machine; None takes
        Dask's configuration, ``gateway.address``.
    auth : str, mapping or dask_gateway.auth.GatewayAuth, optional
        ``"basic"``, ``"kerberos"``, ``"jupyterhub"``, a class's dotted path, a mapping with
        ``type`` and that class's arguments, or an object such as ``BasicAuth(user, password)``,
        which is taken apart into such a mapping. None takes Dask's configuration.
    adaptive_min_workers, adaptive_max_workers : int, optional
        Bounds of adaptive scaling; one given alone makes the minimum 1 or the maximum equal.
    n_workers : int, optional
        A fixed number of workers.
    image : str, optional
        The container image of the scheduler and the workers.
    security : bool, mapping or distributed.Security, optional
        Seldom needed: a Gateway gives each cluster its own TLS credentials.
    proxy_address, public_address : str or int, optional
        As for `dask_gateway.Gateway`, where they differ from `gateway_address`.
    executor_kwargs, labels, on_execute, on_start, on_exit, metadata
        As for `DaskCloudProviderEnvironment`.
    **cluster_options
        Options that this Gateway offers, such as ``worker_cores``.

    Raises
    ------
    EnvironmentValueError
        An argument is ill-typed, nearly one of ours, or contradicts another.

    Examples
    --------
    >>> DaskGatewayEnvironment("local", adaptive_max_workers=4, worker_threads=2)
    DaskGatewayEnvironment(gateway_address='local', adaptive_min_workers=1, \
adaptive_max_workers=4, worker_threads=2)
    """

    kind: ClassVar[str] = "gateway"

    gateway_address: str | None
    auth: str | Mapping[str, Any] | None
    image: str | None
    proxy_address: str | int | None
    public_address: str | None

    def __init__(
        self,
        gateway_address: str | None = None,
        auth: Any = None,
        *,
        adaptive_min_workers: int | None = None,
        adaptive_max_workers: int | None = None,
        n_workers: int | None = None,
        image: str | None = None,
        security: Any = None,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
        executor_kwargs: Mapping[str, Any] | None = None,
        labels: Any = None,
        on_execute: Hook | None = None,
        on_start: Hook | None = None,
        on_exit: Hook | None = None,
        metadata: Mapping[str, Any] | None = None,
        **cluster_options: Any,
    ) -> None:
        owner = type(self).__name__
        self._put("gateway_address", _address(owner, "gateway_address", gateway_address))
        self._put("auth", _auth(owner, auth))
        if image is not None:
            text(owner, "image", image, hint="it takes the name of a container image")
        self._put("image", image)
        if isinstance(proxy_address, bool) or not isinstance(proxy_address, str | int | None):
            raise EnvironmentValueError(
                f"{owner} was given proxy_address={proxy_address!r}; it takes an address or a port"
            )
        self._put("proxy_address", proxy_address)
        self._put("public_address", _address(owner, "public_address", public_address))
        self._set_shared(
            n_workers=n_workers,
            adaptive_min_workers=adaptive_min_workers,
            adaptive_max_workers=adaptive_max_workers,
            security=security,
            executor_kwargs=executor_kwargs,
            labels=labels,
            on_execute=on_execute,
            on_start=on_start,
            on_exit=on_exit,
            metadata=metadata,
            extra=cluster_options,
        )

    @property
    def cluster_options(self) -> Mapping[str, Any]:
        """The options for the Gateway, `image` included."""
        image = {} if self.image is None else {"image": self.image}
        return MappingProxyType({**image, **self.extra})


def _address(owner: str, name: str, value: Any) -> str | None:
    if value is None or value == EMBEDDED:
        return None if value is None else EMBEDDED
    text(owner, name, value, hint="it takes an address such as 'https://gateway.example.org'")
    if not value.startswith(("http://", "https://")):
        raise EnvironmentValueError(
            f"{owner} was given {name}={mask(value)!r}, which has no scheme; "
            f"write 'https://{mask(value)}'"
        )
    if mask(value) != value:
        raise EnvironmentValueError(
            f"{owner} was given {name}={mask(value)!r} with a password in it; take it out and give "
            "auth={'type': 'basic', 'username': ..., 'password': ...}"
        )
    return str(value)


def _auth(owner: str, value: Any) -> str | Mapping[str, Any] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return text(owner, "auth", value, hint="it takes 'basic', 'kerberos' or 'jupyterhub'")
    if isinstance(value, Mapping):
        if not isinstance(value.get("type"), str):
            raise EnvironmentValueError(
                f"{owner} was given auth as a mapping without 'type'; add 'basic', 'kerberos', "
                "'jupyterhub' or a class's dotted path"
            )
        return _frozen(dict(value))
    # A GatewayAuth object, known by its hook, so as not to import dask_gateway.
    if not isinstance(value, type) and callable(getattr(value, "pre_request", None)):
        cls = type(value)
        names = {"BasicAuth": "basic", "KerberosAuth": "kerberos", "JupyterHubAuth": "jupyterhub"}
        ours = cls.__module__ == "dask_gateway.auth"
        path = names.get(cls.__qualname__) if ours else None
        return _frozen({"type": path or f"{cls.__module__}.{cls.__qualname__}", **vars(value)})
    raise EnvironmentValueError(
        f"{owner} was given auth as a {type(value).__name__}; it takes 'basic', 'kerberos', "
        "'jupyterhub', a mapping with 'type', or an object such as BasicAuth(user, password)"
    )


def _frozen(value: dict[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(conceal(value, path=("gateway",)))
