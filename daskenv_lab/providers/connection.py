"""A connection to one scheduler: what every provider gives back, and what all of them share."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import distributed

from daskenv_lab import config
from daskenv_lab.bounded import in_background
from daskenv_lab.cluster import ClusterInfo, ClusterRef, WorkerInfo
from daskenv_lab.errors import ClusterGone, NotSupported, ProviderUnreachable, WaitTimeout
from daskenv_lab.providers.onscheduler import LABEL, describe

if TYPE_CHECKING:
    from collections.abc import Mapping


class Connection:
    """A Dask client for one cluster, never the process's default client.

    Parameters
    ----------
    ref : ClusterRef
        Where the cluster is found again.
    address : str
        The scheduler's address.
    security : distributed.Security, optional
        TLS credentials; they stay in this process.
    dashboard_link : str, optional
        The dashboard as a browser on this machine reaches it.
    timeout : float
        Seconds for the connection.
    client_kwargs : mapping, optional
        Further arguments for `distributed.Client`.

    Raises
    ------
    ClusterGone
        Nothing answers at the address within the time limit.
    NotSupported
        The scheduler's version of distributed is too far from the one here.
    """

    def __init__(
        self,
        ref: ClusterRef,
        address: str,
        *,
        security: Any = None,
        dashboard_link: str | None = None,
        timeout: float = 30.0,
        client_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.ref = ref
        self.address = address
        self.security = security
        self.dashboard_link = dashboard_link
        self._client_kwargs = dict(client_kwargs or {})
        try:
            self.client = distributed.Client(
                address,
                **{
                    **self._client_kwargs,
                    "security": security,
                    "timeout": timeout,
                    "set_as_default": False,
                    "name": "daskenv",
                },
            )
        except (OSError, TimeoutError, AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, OSError | TimeoutError) or _hung_up(error):
                raise ClusterGone(
                    f"no scheduler answers at {address} within {timeout:g} s ({error}); "
                    "start another with `daskenv up`"
                ) from error
            raise NotSupported(
                f"the scheduler at {address} does not understand distributed "
                f"{distributed.__version__}, which is here ({error}); take the same version at "
                "both ends"
            ) from error

    @property
    def open(self) -> bool:
        """Whether the client is still connected."""
        return self.client.status == "running"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"a connection to the cluster {self.ref.id!r} cannot travel; "
            "pass values to the task, and not the session, cluster or client"
        )

    def describe(self) -> dict[str, Any]:
        """Ask the scheduler for what `onscheduler.describe` tells.

        Raises
        ------
        ClusterGone
            The connection broke.
        """
        return dict(self._ask(self.client.run_on_scheduler, describe, asker=self.client.id))

    def label(self) -> dict[str, Any]:
        """Read what `set_label` wrote; empty for a cluster that is not ours."""
        return dict(self._ask(self.client.get_metadata, LABEL, {}) or {})

    def set_label(self, **values: Any) -> None:
        """Write name, owner, fingerprint and the like into the scheduler itself."""
        self._ask(self.client.set_metadata, LABEL, {**self.label(), **values})

    def logs(self, lines: int) -> dict[str, str]:
        """Give the last lines of the scheduler's and of each worker's log, by address."""
        scheduler = self._ask(self.client.get_scheduler_logs, n=lines)
        workers = self._ask(self.client.get_worker_logs, n=lines)
        both = {"scheduler": scheduler, **workers}
        return {who: "\n".join(line for _, line in reversed(log)) for who, log in both.items()}

    def info(self) -> ClusterInfo:
        """Tell how the cluster is.

        Raises
        ------
        ClusterGone
            The connection broke.
        """
        told = self.describe()
        label = told["label"]
        adaptive = told["adaptive"] or label.get("adaptive")
        requested = told["requested"] if told["requested"] is not None else label.get("requested")
        idle = None if told["busy"] else (told["idle_since"] or told["started"])
        return ClusterInfo(
            ref=self.ref,
            status="running",
            name=label.get("name"),
            owner=label.get("owner"),
            fingerprint=label.get("fingerprint"),
            held=label.get("held"),
            scheduler_address=self.address,
            dashboard_link=self.dashboard_link,
            started_at=datetime.fromtimestamp(told["started"], UTC),
            idle_since=None if idle is None else datetime.fromtimestamp(idle, UTC),
            requested=None if adaptive else requested,
            adaptive=tuple(adaptive) if adaptive else None,
            adaptive_holder=label.get("adaptive_holder") if adaptive else None,
            stops_in=told["stops_in"],
            clients=told["clients"],
            tasks=told["tasks"],
            workers=tuple(WorkerInfo(**w) for w in told["workers"]),
        )

    def close(self) -> None:
        """Close the client; the cluster lives on. May be called twice."""
        with contextlib.suppress(OSError, TimeoutError):
            try:
                self.client.close(timeout=5)
            except ValueError as error:
                if not _hung_up(error):
                    raise
                # Dask's own attempt to connect again ended so, and would be waited for once more.
                self.client._handle_report_task = None
                self.client.close(timeout=5)

    def _ask(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.open:
            raise ClusterGone(
                f"the connection to {self.address} is closed; connect again with `daskenv up`"
            )
        limit = config.seconds("timeouts.connect")
        try:
            # Dask's own calls wait for ever for a scheduler that hangs.
            return in_background(lambda: method(*args, **kwargs)).result(limit)
        except TimeoutError as error:
            raise WaitTimeout(
                f"the scheduler at {self.address} does not answer within {limit:g} s; look at its "
                "log or dashboard, or destroy it with `daskenv down`"
            ) from error
        except (OSError, distributed.comm.CommClosedError) as error:
            raise ProviderUnreachable(
                f"the connection to {self.address} broke ({error}); "
                "try again, or start another cluster with `daskenv up`"
            ) from error


def _hung_up(error: Exception) -> bool:
    """Whether the other side closed the connection between TCP's greeting and that of TLS.

    Dask lets what tornado's `IOStream.start_tls` raises then through as it is.
    """
    return isinstance(error, ValueError) and "IOStream is not idle" in str(error)
