"""Clusters that exist already, known by their scheduler's address."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from daskenv_lab import config
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.environments import Environment, RemoteDaskEnvironment
from daskenv_lab.environments.secret import mask
from daskenv_lab.errors import ClusterGone, NotSupported, ProviderUnreachable
from daskenv_lab.providers.connection import Connection
from daskenv_lab.providers.contract import Provider
from daskenv_lab.providers.credentials import security_from

if TYPE_CHECKING:
    from daskenv_lab.cluster import ClusterInfo
    from daskenv_lab.providers.contract import OnSubmitted, Progress


_LOOK_TIME = 3.0


class RemoteProvider(Provider):
    """A cluster that somebody else made; it is used, and neither sized nor stopped.

    Examples
    --------
    >>> RemoteProvider(RemoteDaskEnvironment("tcp://127.0.0.1:8786")).name
    'remote'
    """

    name: ClassVar[str] = "remote"

    def __init__(self, environment: Environment) -> None:
        if not isinstance(environment, RemoteDaskEnvironment):
            raise TypeError(f"{type(environment).__name__} names no scheduler's address")
        self.environment = environment

    def create(
        self, label: str, *, timeout: float, progress: Progress, on_submitted: OnSubmitted
    ) -> ClusterRef:
        """Check that the scheduler answers, and adopt its cluster; nothing is started."""
        address = self.environment.address
        progress(f"asking the scheduler at {mask(address)} for {label!r}")
        ref = ClusterRef(provider=self.name, id=mask(address), location=mask(address))
        self.connect(ref, timeout=timeout).close()
        on_submitted(ref)
        return ref

    def connect(self, ref: ClusterRef, *, timeout: float) -> Connection:
        """Connect to the scheduler, with the environment's security."""
        connection = Connection(
            ref,
            self.environment.address,
            security=security_from(self.environment.security),
            timeout=timeout,
            client_kwargs=config.resolve_secrets(dict(self.environment.executor_kwargs)),
        )
        connection.dashboard_link = connection.client.dashboard_link
        return connection

    def scale(self, connection: Connection, n: int) -> None:
        """Refuse: the cluster is not ours.

        Raises
        ------
        NotSupported
            Always.
        """
        raise _not_ours(connection, f"scaled to {n} workers")

    def adapt(self, connection: Connection, minimum: int, maximum: int) -> None:
        """Refuse: the cluster is not ours.

        Raises
        ------
        NotSupported
            Always.
        """
        raise _not_ours(connection, f"made to adapt between {minimum} and {maximum} workers")

    def shutdown(self, ref: ClusterRef, *, timeout: float) -> None:
        """Let go of the cluster, which is somebody else's and lives on."""

    def find(self) -> list[ClusterInfo]:
        """Tell of the one cluster at the address.

        Raises
        ------
        ProviderUnreachable
            Nothing answers there.
        """
        place = mask(self.environment.address)
        ref = ClusterRef(provider=self.name, id=place, location=place)
        try:
            with contextlib.closing(self.connect(ref, timeout=_LOOK_TIME)) as connection:
                return [connection.info()]
        except ClusterGone as error:
            raise ProviderUnreachable(
                f"no scheduler answers at {place}; ask whoever runs it"
            ) from error


def _not_ours(connection: Connection, what: str) -> NotSupported:
    return NotSupported(
        f"the cluster at {mask(connection.address)} exists already and cannot be {what} "
        "from here; ask whoever runs it, or use a `local` or `gateway` environment"
    )
