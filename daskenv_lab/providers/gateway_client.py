"""One Dask Gateway over its REST interface, with limits on waiting and errors in sentences.

What the provider for any Gateway and the one for the embedded Gateway share.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC
from typing import TYPE_CHECKING, Any

import aiohttp
from dask_gateway import Gateway, GatewayClusterError
from dask_gateway.client import GatewayServerError

from daskenv_lab import config
from daskenv_lab.bounded import Deadline, in_background
from daskenv_lab.cluster import ClusterInfo, ClusterRef
from daskenv_lab.environments.secret import mask
from daskenv_lab.errors import (
    AuthenticationFailed,
    ClusterGone,
    ClusterStartError,
    DaskEnvLabError,
    ProviderError,
    ProviderUnreachable,
    WaitTimeout,
)
from daskenv_lab.providers.connection import Connection
from daskenv_lab.providers.gateway_options import choose, described

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daskenv_lab.providers.contract import Offer, OnSubmitted, Progress

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# How long a Gateway may be silent while a cluster starts, before it counts as gone.
_SILENCE = 10.0
# Seconds for each cluster that `find` asks for its label.
_LABEL_TIME = 5.0


class GatewayClient:
    """A Gateway by its address.

    Parameters
    ----------
    provider : str
        The word for `ClusterRef.provider`.
    location : str
        What `ClusterRef.location` says.
    address : str, optional
        The Gateway's address; None takes Dask's configuration.
    auth : object
        A `dask_gateway.auth.GatewayAuth`, which holds the credentials.
    proxy_address, public_address : optional
        As for `dask_gateway.Gateway`.
    """

    def __init__(
        self,
        provider: str,
        location: str,
        address: str | None,
        *,
        auth: Any,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
    ) -> None:
        self._provider = provider
        self._location = location
        self._auth = auth
        self._arguments = {
            "address": address,
            "auth": auth,
            "proxy_address": proxy_address,
            "public_address": public_address,
        }
        self._where = mask(address or location)
        self._address = address

    def create(
        self,
        label: str,
        options: Mapping[str, Any],
        *,
        timeout: float,
        progress: Progress,
        on_submitted: OnSubmitted,
        explain: Callable[[ClusterRef], str] = lambda _: "",
    ) -> ClusterRef:
        """Submit a cluster and wait for its scheduler, as `Provider.create` says.

        Parameters
        ----------
        label : str
            What the user calls it; a Gateway gives a name of its own.
        options : mapping
            The cluster options; each must be one that the Gateway offers.
        explain : callable
            Gives what is known about a cluster that did not start, such as its log.
        """
        deadline = Deadline(timeout)
        progress(f"asking the Gateway at {self._where} for the cluster {label!r}")
        chosen = self._call(lambda g: choose(g, options), deadline.left, "asked for its options")
        ref = self._submit(chosen, deadline)
        with contextlib.ExitStack() as undo:
            undo.callback(self._abandon, ref)
            on_submitted(ref)
            self._wait_for_start(ref, deadline, progress, explain)
            undo.pop_all()
        return ref

    def connect(
        self, ref: ClusterRef, *, timeout: float, client_kwargs: Mapping[str, Any]
    ) -> Connection:
        """Connect to a cluster; one that is still starting is waited for."""
        deadline = Deadline(timeout)
        while True:
            report = self._report(ref, deadline.left)
            status = report.status.name.lower()
            if status == "running":
                break
            if status != "pending":
                raise ClusterGone(
                    f"the cluster {ref.id!r} of the Gateway at {self._where} is {status}; "
                    "start another with `daskenv up`"
                )
            if deadline.passed:
                raise WaitTimeout(
                    f"the cluster {ref.id!r} of the Gateway at {self._where} is still pending "
                    f"after {timeout:g} s; wait a little, or stop it with `daskenv down`"
                )
            deadline.pause(0.3)
        return Connection(
            ref,
            report.scheduler_address,
            security=report.security,
            dashboard_link=report.dashboard_link,
            dashboard_address=self._dashboard(report),
            timeout=max(deadline.left, 1.0),
            client_kwargs=client_kwargs,
        )

    def _dashboard(self, report: Any) -> str | None:
        """Give the dashboard behind the address at which the Gateway was asked, if there is one.

        The link in the report is for a browser, which may know the Gateway by another address.
        """
        if not (report.dashboard_link and self._address):
            return None
        return f"{self._address.rstrip('/')}/clusters/{report.name}/status"

    def scale(self, ref: ClusterRef, n: int) -> None:
        """Ask for `n` workers, which ends adaptive scaling."""
        self._call(lambda g: g.scale_cluster(ref.id, n), None, f"asked for {n} workers", ref)

    def offers(self) -> tuple[Offer, ...]:
        """Describe the cluster options that the Gateway offers."""
        options = self._call(lambda g: g.cluster_options(), None, "asked for its options")
        return described(options)

    def adapt(self, ref: ClusterRef, minimum: int, maximum: int) -> None:
        """Turn adaptive scaling on."""
        self._call(
            lambda g: g.adapt_cluster(ref.id, minimum=minimum, maximum=maximum),
            None,
            f"asked for {minimum} to {maximum} workers",
            ref,
        )

    def shutdown(self, ref: ClusterRef, *, timeout: float) -> None:
        """Stop a cluster and wait until it is gone."""
        deadline = Deadline(timeout)
        with contextlib.suppress(ClusterGone):
            self._call(lambda g: g.stop_cluster(ref.id), deadline.left, "told to stop", ref)
            while (report := self._report(ref, max(deadline.left, 1.0))).stop_time is None:
                if deadline.passed:
                    raise WaitTimeout(
                        f"the cluster {ref.id!r} is still {report.status.name.lower()} "
                        f"{timeout:g} s after it was told to stop; look for it with `daskenv ls`"
                    )
                deadline.pause(0.2)

    def find(self) -> list[ClusterInfo]:
        """List the clusters that are pending or running, with their labels where they tell."""
        reports = self._call(
            lambda g: g.list_clusters(status=["pending", "running"]), None, "asked for its clusters"
        )
        if not reports:
            return []
        with ThreadPoolExecutor(min(8, len(reports))) as pool:
            return list(pool.map(self._look_at, reports))

    def _look_at(self, report: Any) -> ClusterInfo:
        ref = self._ref(report.name)
        if report.status.name == "RUNNING":
            with contextlib.suppress(ProviderError):
                connection = self.connect(ref, timeout=_LABEL_TIME, client_kwargs={})
                with contextlib.closing(connection):
                    return connection.info()
        return ClusterInfo(
            ref=ref,
            status=report.status.name.lower(),
            scheduler_address=report.scheduler_address,
            dashboard_link=report.dashboard_link,
            started_at=report.start_time.astimezone(UTC),
        )

    def _ref(self, name: str) -> ClusterRef:
        return ClusterRef(provider=self._provider, id=name, location=self._location)

    def _report(self, ref: ClusterRef, timeout: float) -> Any:
        return self._call(lambda g: g.get_cluster(ref.id), timeout, "asked for a cluster", ref)

    def _submit(self, options: Any, deadline: Deadline) -> ClusterRef:
        answer = self._start_call(lambda g: g.submit(cluster_options=options), deadline.left)
        try:
            name = self._result(answer, deadline.left, "asked for a cluster")
        except BaseException:
            # Interrupted after the Gateway may have heard: it may have made a cluster.
            with contextlib.suppress(Exception):
                self._abandon(self._ref(answer.result(_SILENCE)))
            raise
        return self._ref(name)

    def _wait_for_start(
        self,
        ref: ClusterRef,
        deadline: Deadline,
        progress: Progress,
        explain: Callable[[ClusterRef], str],
    ) -> None:
        status, told, heard = "submitted", -5.0, Deadline(_SILENCE)
        while True:
            try:
                new = self._report(ref, min(deadline.left, _SILENCE)).status.name.lower()
                heard = Deadline(_SILENCE)
            except (ProviderUnreachable, WaitTimeout):
                if heard.passed or deadline.passed:
                    raise
                new = f"{status} (the Gateway is silent)"
            if new == "running":
                return
            if new in ("stopping", "stopped", "failed"):
                raise ClusterStartError(
                    f"the cluster {ref.id!r} is {new} and never ran; {explain(ref)}"
                    "look at the Gateway's log and at the cluster options"
                )
            if new != status or deadline.spent - told >= 5:
                told = deadline.spent
                progress(f"the cluster is {new} ({told:.0f} s)")
            status = new
            if deadline.passed:
                raise WaitTimeout(
                    f"the cluster {ref.id!r} is still {status} after {deadline.seconds:g} s; "
                    f"{explain(ref)}it was stopped: raise daskenv.timeouts.start, or ask whoever "
                    "runs the Gateway"
                )
            deadline.pause(0.15 if deadline.spent < 5 else 0.5)

    def _abandon(self, ref: ClusterRef) -> None:
        """Stop what was submitted and is not wanted; what it raised matters more than this."""
        with contextlib.suppress(DaskEnvLabError):
            self.shutdown(ref, timeout=min(config.seconds("timeouts.stop"), 30))

    def _call(
        self,
        ask: Callable[[Gateway], Any],
        timeout: float | None,
        doing: str,
        ref: ClusterRef | None = None,
    ) -> Any:
        if ref is not None:
            check_name(ref)
        limit = config.seconds("timeouts.connect") if timeout is None else max(timeout, 0.1)
        return self._result(self._start_call(ask, limit), limit, doing, ref)

    def _start_call(self, ask: Callable[[Gateway], Any], timeout: float) -> Future[Any]:
        """Make one call in a loop of its own: a notebook's loop runs already."""

        async def call() -> Any:
            async with Gateway(asynchronous=True, **self._arguments) as gateway:
                return await asyncio.wait_for(ask(gateway), timeout)

        return in_background(lambda: asyncio.run(call()))

    def _result(
        self, answer: Future[Any], timeout: float, doing: str, ref: ClusterRef | None = None
    ) -> Any:
        try:
            # The call has the same limit; the rest is for a name server that does not answer.
            return answer.result(timeout + 1)
        except Exception as error:
            translated = self._translated(error, doing, ref)
            if translated is None:
                raise
            raise translated from error

    def _translated(
        self, error: Exception, doing: str, ref: ClusterRef | None
    ) -> DaskEnvLabError | None:
        gateway = f"the Gateway at {self._where}"
        match error:
            case TimeoutError():
                return WaitTimeout(
                    f"{gateway} was {doing} and does not answer in time; try again, or raise "
                    "daskenv.timeouts.connect"
                )
            case aiohttp.ClientResponseError() if error.status in (401, 403):
                return self._refused(error.status)
            case aiohttp.ClientResponseError():
                return ProviderUnreachable(
                    f"{gateway} answers {error.status} {error.message}, as no running Gateway does;"
                    " check the address, or ask whoever runs it"
                )
            case aiohttp.ClientError() | OSError():
                return ProviderUnreachable(
                    f"nothing answers at the Gateway's address {self._where} "
                    f"({mask(str(error)) or type(error).__name__}); "
                    "check the address, the network, and that the Gateway runs"
                )
            case GatewayServerError():
                return ProviderError(f"{gateway} failed inside ({error}); look at its log")
            case GatewayClusterError():
                return ClusterGone(
                    f"{gateway} says: {error}; start another cluster with `daskenv up`"
                )
            case ImportError():
                return AuthenticationFailed(
                    f"authentication at {gateway} needs a module that is not here ({error}); "
                    "install it, or use another `auth`"
                )
            case json.JSONDecodeError() | KeyError():
                return ProviderUnreachable(
                    f"what answers at {self._where} is no Dask Gateway ({type(error).__name__}: "
                    f"{error}); check the address"
                )
            case ValueError() if ref is not None and str(error).endswith("not found"):
                return ClusterGone(
                    f"{gateway} knows no cluster {ref.id!r}; start another with `daskenv up`"
                )
            case ValueError() if "not found" in str(error).lower():
                return ProviderUnreachable(
                    f"what answers at {self._where} is no Dask Gateway, or one that has just "
                    f"begun to start ({str(error).strip()}); check the address, or try again"
                )
            case ValueError():
                return ClusterStartError(
                    f"{gateway} was {doing} and refuses: {str(error).strip() or 'no reason given'};"
                    " change what it names"
                )
        return None

    def _refused(self, status: int) -> AuthenticationFailed:
        user = getattr(self._auth, "username", None)
        whom = f"the user {user!r}" if user else type(self._auth).__name__
        if status == 403:
            return AuthenticationFailed(
                f"the Gateway at {self._where} does not allow this to {whom}; "
                "ask whoever runs it, or authenticate as another user"
            )
        how = (
            "give auth={'type': 'basic', 'username': ..., 'password': ...}, or set "
            "DASK_GATEWAY__AUTH__KWARGS__PASSWORD"
            if user
            else "renew the token or ticket, or choose another `auth`"
        )
        return AuthenticationFailed(
            f"the Gateway at {self._where} refuses the credentials of {whom}; {how}"
        )


def check_name(ref: ClusterRef) -> None:
    """Refuse a name that no Gateway gives, before it becomes a part of a path.

    Raises
    ------
    ClusterGone
        The reference is damaged.
    """
    if not _NAME.fullmatch(ref.id):
        raise ClusterGone(
            f"{ref.id!r} cannot be the name of a Gateway's cluster, so that its record must be "
            "damaged; start another with `daskenv up`"
        )
