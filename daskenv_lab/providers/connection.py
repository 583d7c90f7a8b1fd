"""A connection to one scheduler: what every provider gives back, and what all of them share."""

from __future__ import annotations

import contextlib
import platform
import sys
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import distributed
from distributed.versions import VersionMismatchWarning

from daskenv_lab import config
from daskenv_lab.bounded import Deadline, in_background
from daskenv_lab.cluster import ClusterInfo, ClusterRef, WorkerInfo
from daskenv_lab.errors import ClusterGone, NotSupported, ProviderUnreachable, WaitTimeout
from daskenv_lab.providers.onscheduler import LABEL, STOP, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


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
    dashboard_address : str, optional
        The dashboard as this process reaches it, where that is known to be another address.
    timeout : float
        Seconds for the connection.
    client_kwargs : mapping, optional
        Further arguments for `distributed.Client`.

    Raises
    ------
    ClusterGone
        Nothing answers at the address within the time limit.
    NotSupported
        The scheduler's version of distributed, or of Python, is too far from the one here.
    """

    def __init__(
        self,
        ref: ClusterRef,
        address: str,
        *,
        security: Any = None,
        dashboard_link: str | None = None,
        dashboard_address: str | None = None,
        timeout: float = 30.0,
        client_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.ref = ref
        self.address = address
        self.security = security
        self.dashboard_link = dashboard_link
        self._dashboard_address = dashboard_address or dashboard_link
        self._client_kwargs = dict(client_kwargs or {})
        try:
            with _hearing_of_differences() as differences:
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
        if differences:
            self._refuse_other_python()

    @property
    def open(self) -> bool:
        """Whether the client is still connected."""
        return self.client.status == "running"

    @property
    def dashboard_address(self) -> str | None:
        """The dashboard as this process reaches it; None where there is none.

        The link for a browser may be another (a Gateway's public address), or a path alone
        (``distributed.dashboard.link`` on a JupyterHub): then it is on the scheduler's own host.
        """
        if str(self._dashboard_address).startswith(("http://", "https://")):
            return self._dashboard_address
        port = self._ask(self.client.scheduler_info).get("services", {}).get("dashboard")
        host = distributed.comm.get_address_host(self.address)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{int(port)}/status" if port else None

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

    def versions(
        self, packages: Iterable[str], *, timeout: float | None = None
    ) -> tuple[Mapping[str, Any], dict[str, Mapping[str, Any]]]:
        """Ask the scheduler and each worker for versions, in plain words and no pickled function.

        Returns
        -------
        tuple of mapping and dict
            The scheduler's, and each worker's by address; with Python's under ``python``.
        """
        told = self._ask(self.client.get_versions, packages=list(packages), limit=timeout)
        workers = {address: answer["packages"] for address, answer in told["workers"].items()}
        return told["scheduler"]["packages"], workers

    def on_workers(
        self, function: Any, *args: Any, workers: Iterable[str], timeout: float | None = None
    ) -> dict[str, Any]:
        """Run a function on workers, and give what each answers, by address.

        One that fails, or goes away meanwhile, answers with its exception.
        """
        if not (chosen := list(workers)):
            return {}
        return dict(
            self._ask(
                self.client.run,
                function,
                *args,
                workers=chosen,
                on_error="return",
                limit=timeout,
            )
        )

    def stop_flow_runs(self) -> None:
        """Ask the processes that run flows on this cluster through us to end them."""
        self._ask(self.client.log_event, STOP, {"stop": True})

    def register(self, plugin: Any, *, name: str, timeout: float) -> None:
        """Set up a plugin on each worker that is there or comes, and wait until it is.

        Raises
        ------
        WaitTimeout
            It takes longer than `timeout` seconds.
        """
        self._ask(self.client.register_plugin, plugin, name=name, limit=timeout)

    def unregister(self, name: str) -> None:
        """Take a worker plugin away again."""
        self._ask(self.client.unregister_worker_plugin, name)

    def info(self) -> ClusterInfo:
        """Tell how the cluster is.

        Raises
        ------
        ClusterGone
            The connection broke.
        """
        told = self.describe()
        label = told["label"]
        adaptive = told["adaptive"]
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
            target=told["target"],
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

    def _refuse_other_python(self) -> None:
        """Refuse a scheduler whose Python would be ended by what we send it.

        Functions travel as byte code. A Python of another minor version runs it nevertheless, and
        dies of it (seen with 3.11 here and 3.12 there: signal 11).
        """
        told = self._ask(self.client.sync, self.client.scheduler.versions, packages=[])
        there = str(told["packages"]["python"]).split(".")[:3]
        if there[:2] != [str(part) for part in sys.version_info[:2]]:
            self.close()
            raise NotSupported(
                f"the scheduler at {self.address} runs Python {'.'.join(there)}, and this is "
                f"{platform.python_version()}; what is sent there would end it, so take the same "
                "minor version at both ends"
            )

    def _ask(self, method: Any, *args: Any, limit: float | None = None, **kwargs: Any) -> Any:
        self._wait_while_reconnecting()
        if not self.open:
            raise ClusterGone(
                f"the connection to {self.address} is closed; connect again with `daskenv up`"
            )
        limit = config.seconds("timeouts.connect") if limit is None else limit
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

    def _wait_while_reconnecting(self) -> None:
        """Wait a little for Dask to connect again, as when a Gateway's proxy was restarted."""
        limit = Deadline(config.seconds("timeouts.reconnect"))
        while self.client.status == "connecting" and not limit.passed:
            limit.pause(0.05)


@contextlib.contextmanager
def _hearing_of_differences() -> Iterator[list[str]]:
    """Collect what Dask warns of while it connects: the versions that differ, in a table.

    The scheduler tells it with its first message, so that where nothing differs nobody is asked.
    All warnings are shown nevertheless, once it is connected.
    """
    differences: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VersionMismatchWarning)
        yield differences
    for warning in caught:
        if issubclass(warning.category, VersionMismatchWarning):
            differences.append(str(warning.message))
        warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)


def _hung_up(error: Exception) -> bool:
    """Whether the other side closed the connection between TCP's greeting and that of TLS.

    Dask lets what tornado's `IOStream.start_tls` raises then through as it is.
    """
    return isinstance(error, ValueError) and "IOStream is not idle" in str(error)
