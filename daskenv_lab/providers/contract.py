"""The contract between a session and the side that runs clusters.

A provider is made for one environment, holds no state that is worth keeping, and knows nothing
of the other providers. The session calls `create` at most once for each name, under that name's
lock; whoever calls `create` may call `shutdown`, and whoever calls `connect` calls `close`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol
from urllib.parse import urlsplit

from daskenv_lab.errors import NotSupported, UnknownNameError, did_you_mean
from daskenv_lab.prices import worker_hour_rate

if TYPE_CHECKING:
    from daskenv_lab.cluster import ClusterInfo, ClusterRef
    from daskenv_lab.environments import Environment
    from daskenv_lab.prices import Rate
    from daskenv_lab.providers.connection import Connection

Progress = Callable[[str], None]
"""Gets one sentence whenever there is something new to wait for."""

OnSubmitted = Callable[["ClusterRef"], None]
"""Gets the reference as soon as there is something that would have to be shut down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A setting that can be chosen for a new cluster, as its provider describes it."""

    name: str
    """The environment's argument."""

    label: str
    kind: Literal["text", "whole", "number", "flag", "choice"]
    default: str | float | bool
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()


class Provider(Protocol):
    """One way of running clusters. Every wait has a time limit and ends in one sentence.

    What only concerns a connection is done here, for all.
    """

    name: ClassVar[str]
    """The word in `ClusterRef.provider`."""

    def __init__(self, environment: Environment) -> None: ...

    def create(
        self, label: str, *, timeout: float, progress: Progress, on_submitted: OnSubmitted
    ) -> ClusterRef:
        """Start a new cluster and wait until its scheduler runs; its size is the caller's to set.

        On failure, time-out or interruption nothing is left running.

        Parameters
        ----------
        label : str
            The name that the user gave, for providers that can show or tag it.
        timeout : float
            Seconds until `WaitTimeout`, which holds the last state seen.
        progress : callable
            Told what is being waited for.
        on_submitted : callable
            Told the reference before the waiting starts.

        Raises
        ------
        ProviderUnreachable, AuthenticationFailed, ClusterStartError, WaitTimeout
        LeftBehind
            It failed, and something could not be removed; the reference still stands for it.
        """
        ...

    def connect(self, ref: ClusterRef, *, timeout: float) -> Connection:
        """Connect to a running cluster.

        Raises
        ------
        ClusterGone
            It does not run any more.
        ProviderUnreachable, AuthenticationFailed, WaitTimeout
        """
        ...

    def scale(self, connection: Connection, n: int) -> None:
        """Ask for `n` workers and end adaptive scaling; does not wait for them."""
        ...

    def adapt(self, connection: Connection, minimum: int, maximum: int) -> None:
        """Let the number of workers follow the load between two bounds."""
        ...

    def info(self, connection: Connection) -> ClusterInfo:
        """Tell how the cluster is, in one round trip to its scheduler."""
        return connection.info()

    def logs(
        self, connection: Connection, *, lines: int, worker: str | None = None
    ) -> Mapping[str, str]:
        """Give the last lines of the scheduler's and of each worker's log, by address.

        Raises
        ------
        UnknownNameError
            No worker has the address, or the host, that `worker` is.
        """
        told = connection.logs(lines)
        if worker is None:
            return told
        chosen = {who: log for who, log in told.items() if worker in (who, urlsplit(who).hostname)}
        if not chosen:
            raise UnknownNameError(f"no worker is {worker!r}; {did_you_mean(worker, told)}")
        return chosen

    def follow_logs(
        self, connection: Connection, *, lines: int, worker: str | None = None
    ) -> Iterator[tuple[str, str]]:
        """Go through the lines of all logs, or of one worker's, as they are written.

        The last `lines` that are there already come first.

        Raises
        ------
        NotSupported
            This kind of cluster only tells its last lines.
        """
        raise NotSupported(
            f"the logs of {worker or connection.ref.id!r} cannot be followed here; look at the "
            f"last {lines} lines with `daskenv logs --lines {lines}`"
        )

    def troubles(self, connection: Connection) -> list[str]:  # noqa: ARG002 - for others to use
        """Say in a sentence each why workers that were asked for do not come, if that is known."""
        return []

    def keep_alive(self, connection: Connection, seconds: float) -> float | None:  # noqa: ARG002
        """Let the cluster not end by itself for so long.

        Returns
        -------
        float or None
            Seconds until it may; None for one that never ends by itself.

        Raises
        ------
        NotSupported
            Its idle time-out is not ours to set.
        """
        raise NotSupported(
            f"the cluster {connection.ref.id!r} has no idle time-out that can be put off; a "
            "connected client keeps a cluster of this kind alive"
        )

    def offers(self) -> tuple[Offer, ...]:
        """Describe the settings that can be chosen for a new cluster, where the provider tells.

        Raises
        ------
        ProviderUnreachable, AuthenticationFailed
        """
        return ()

    def takes_image(self) -> bool:
        """Tell whether a cluster is made from a container image, which can be chosen."""
        return False

    def rate(self) -> Rate | None:
        """Tell what a cluster of this environment costs; None where nobody knows.

        Raises
        ------
        ConfigError
            The table of prices is damaged.
        """
        return worker_hour_rate()

    def close(self, connection: Connection) -> None:
        """Let go of a connection; the cluster lives on. May be called twice."""
        connection.close()

    def shutdown(self, ref: ClusterRef, *, timeout: float) -> None:
        """Destroy the cluster and wait until it is gone; no error if it is gone already."""
        ...

    def find(self) -> list[ClusterInfo]:
        """List the clusters that run at this environment's provider, ours and others.

        Never starts anything. For those that cannot be asked, `ClusterInfo.held` is None.
        """
        ...
