"""`DaskExecutor`: run a flow's tasks on a cluster that runs already."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, Self

import httpx
from distributed.client import ClosedClientError
from prefect.exceptions import PrefectException

from daskenv_lab import config
from daskenv_lab.bounded import in_background
from daskenv_lab.errors import ClusterGone, FlowError, NotPicklable
from daskenv_lab.flows.engine import Engines
from daskenv_lab.flows.events import Listener, TaskEvent, feed_of
from daskenv_lab.flows.fetching import fetch
from daskenv_lab.flows.inner import InnerRuns
from daskenv_lab.flows.inside import WorkerRunner, open_room
from daskenv_lab.flows.leaving import leave_rooms
from daskenv_lab.flows.nearby import fetch_from_nearby
from daskenv_lab.flows.nested import NESTED
from daskenv_lab.flows.prefect3 import current_flow
from daskenv_lab.flows.relay.prefect_http import stripped
from daskenv_lab.flows.relay.route import hurry, route_for
from daskenv_lab.flows.runner import DaskRunner, Prepared
from daskenv_lab.flows.settings import settings_of_flow_run
from daskenv_lab.flows.shipping import CannotTravel, written_room
from daskenv_lab.flows.sync import Code, ship, travelling
from daskenv_lab.flows.target import Reached, reach
from daskenv_lab.flows.unfinished import end_subflows, ended_at_api, note

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import distributed

    from daskenv_lab.flows.ends import Waited
    from daskenv_lab.flows.future import DaskFuture

_log = logging.getLogger(__name__)
_engines = Engines()

LEAVE = 8.0
"""Seconds that the end of a flow run waits for workers to close its rooms."""

LEAVE_RELAYED = 30.0
"""The same where they must tell the API all before, since this process carries it there."""

LEAVE_LAST = 90.0
"""The same where they end with the flow run, and the API is told as fast as it records."""

LAST_WORDS = 1.0
"""Seconds that it waits for the news of the last ends, which come another way."""


class DaskExecutor(DaskRunner):
    """A task runner for a running cluster, which it neither starts nor stops.

    It reaches the cluster that it was given and no other: no default client, no temporary
    cluster. Task runs whose worker dies end Crashed, those that a flow does not await are
    awaited, and those of a flow that fails or is interrupted are cancelled.

    Parameters
    ----------
    target : Session, Connection, str or cluster, optional
        A session; the name of a cluster of ours; a scheduler's address (it has a colon); or
        a cluster object such as `LocalCluster` or `GatewayCluster`. By default the cluster
        named by ``daskenv.name``.
    address, cluster : optional
        The same, by the names that `prefect_dask.DaskTaskRunner` has for them.
    security : distributed.Security, optional
        TLS credentials for an address. They never leave this process.
    client_kwargs : mapping, optional
        Further arguments for the `distributed.Client`, if one is opened.

    Examples
    --------
    >>> from prefect import flow
    >>> @flow(task_runner=DaskExecutor("dev"))  # doctest: +SKIP
    ... def etl(): ...
    """

    _last = False
    """Whether the cluster ends with the flow run."""

    def __init__(
        self,
        target: Any = None,
        *,
        address: str | None = None,
        cluster: Any = None,
        security: Any = None,
        client_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        given = [one for one in (target, address, cluster) if one is not None]
        if len(given) > 1:
            raise FlowError(
                f"the executor was given {len(given)} clusters; give one: a session, a name, an "
                "address or a cluster object"
            )
        refused = {"address", "asynchronous", "set_as_default"} & set(client_kwargs or {})
        if refused:
            raise FlowError(
                f"client_kwargs cannot set {', '.join(sorted(refused))}: the executor connects to "
                "the cluster that it was given; leave it out"
            )
        self.target = given[0] if given else config.cluster_name(None)
        self.security = security
        self.listeners: list[Listener] = []
        self._given_kwargs = dict(client_kwargs or {})
        self._reached: Reached | None = None
        self._reaching = threading.Lock()
        self.begun: list[str] = []
        """The ids of the flow runs that have sent task runs through this or its duplicates."""

        self.say: Callable[[str], None] = _log.info
        self._note: Path | None = None
        self._patience = LEAVE
        self._inner_runs = InnerRuns()
        self._entered = contextlib.ExitStack()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DaskExecutor):
            return NotImplemented
        ours = (self.target, self.security, self._given_kwargs)
        return ours == (other.target, other.security, other._given_kwargs)

    def __repr__(self) -> str:
        return f"DaskExecutor({self.target!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # On a worker, a flow that has this runner runs on the worker's own cluster.
        return WorkerRunner, ()

    def note_waits(self) -> list[Waited]:
        """Note from now on when the flow's code waits for task runs; duplicates note there too."""
        if self._ended.waits is None:
            self._ended.waits = []
        return self._ended.waits

    @property
    def client(self) -> distributed.Client:
        """The Dask client, connected on first use.

        Raises
        ------
        ClusterGone, UnknownNameError, WrongCluster
            The cluster that was given is not reached.
        """
        with self._reaching:
            if self._reached is None:
                self._reached = self._open()
                feed_of(self._reached.connection.client).add(self.run_id, self._on_event)
        connection = self._reached.connection
        if not connection.open:
            raise ClusterGone(
                f"the connection to {connection.address} was lost; look at the cluster with "
                "`daskenv status`, and run the flow again"
            )
        return connection.client

    @property
    def client_kwargs(self) -> dict[str, Any]:
        """Arguments for another client of the same cluster; `get_dask_client` asks for them."""
        security = self.security
        if self._reached is not None:
            security = self._reached.connection.security
        return {**self._given_kwargs, "security": security, "set_as_default": False}

    def duplicate(self) -> DaskExecutor:
        """Make another for the same cluster; Prefect asks for one for each flow run."""
        twin = type(self)(self.target, security=self.security, client_kwargs=self._given_kwargs)
        twin.listeners, twin.begun, twin.say = self.listeners, self.begun, self.say
        twin._ended.waits = self._ended.waits
        return twin

    def __enter__(self) -> Self:
        entered = super().__enter__()
        if not self._last:
            # Whether this process lives is known without heartbeats: see `unfinished`.
            self._entered.enter_context(settings_of_flow_run())
        return entered

    def __exit__(self, exc_type: Any, exc_value: Any, trace: Any) -> None:
        try:
            if self._futures:
                self.finish(ok=exc_type is None and self.flow_completed)
        finally:
            self._entered.close()
            try:
                self._let_go()
            finally:
                if self._note is not None:
                    self._note.unlink(missing_ok=True)
                super().__exit__(exc_type, exc_value, trace)

    @property
    def _client(self) -> _Address:
        # prefect-dask's get_dask_client() asks a flow's runner so for the scheduler's address.
        _ = self.client
        assert self._reached is not None  # noqa: S101 - `client` has set it
        return _Address(self._reached.connection.address)

    def _reach(self) -> distributed.Client:
        return self.client

    def _open(self) -> Reached:
        """Connect to the cluster."""
        return reach(self.target, security=self.security, client_kwargs=self._given_kwargs)

    def _prepare(self, *args: Any, **kwargs: Any) -> Prepared:
        try:
            return super()._prepare(*args, **kwargs)
        except CannotTravel as error:
            raise NotPicklable(str(error)) from error.__cause__

    def _keep_task(self, *args: Any) -> str:
        try:
            return super()._keep_task(*args)
        except CannotTravel as error:
            raise NotPicklable(str(error)) from error.__cause__

    def _stop(self, futures: list[distributed.Future]) -> None:
        # The connection may be what was lost; then nothing is left to be stopped.
        with contextlib.suppress(ClusterGone, ClosedClientError):
            super()._stop(futures)

    def _engine(self, client: distributed.Client) -> str:
        return _engines.ensure(client, open_room)

    def _modules(self, client: distributed.Client) -> Code:
        shipped = ship(client, current_flow())
        for sentence in shipped.sentences:
            self.say(sentence)
        self._entered.enter_context(travelling(shipped.by_value))
        return shipped.code

    def _written_room(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        route = route_for(self.client, say=self.say)
        self._patience = LEAVE_LAST if self._last else LEAVE_RELAYED if route.relayed else LEAVE
        written = written_room()
        written["settings_context"] = stripped(written["settings_context"], relayed=route.relayed)
        return written, {**route.written(), "workers": len(self.client.nthreads())}

    def _on_sent(self, futures: list[DaskFuture]) -> None:
        if self._note is None and self._flow_run is not None:
            self._note = note(str(self._flow_run.id))
            self.begun.append(str(self._flow_run.id))
        batch = str(futures[0].task_run_id) if len(futures) > 1 else None
        for future in futures:
            self._tell(_event(future, "submitted", "Pending", batch=batch))

    def _on_event(self, event: TaskEvent) -> None:
        if event.what == NESTED:
            self._inner_runs.note_nested(event)
            return
        future = self._futures.get(event.id)
        if future is not None:
            future.started = True
            future.told = future.told or event.what == "ended"
            future.worker, future.start, future.end = event.worker, event.start, event.end
            future.told_state = event.written
        else:
            self._inner_runs.note(event)
        self._tell(event)

    def _on_done(self, futures: list[DaskFuture]) -> None:
        # Now there is a worker to ask.
        fetch_from_nearby(futures[0].wrapped_future.client)
        super()._on_done(futures)
        # A worker tells of the end of each call that it could finish.
        if futures[0].wrapped_future.status == "finished":
            return
        for future in futures:
            if not future.told:
                future.told = True
                state = "Cancelled" if future.cancelled and not future.started else "Crashed"
                self._tell(_event(future, "ended", state))

    def _tell(self, event: TaskEvent) -> None:
        for listener in self.listeners:
            listener(event)

    def _let_parcels_go(self) -> None:
        # A scheduler that is lost, or has lost sight of this process, keeps none.
        with contextlib.suppress(ClusterGone, ClosedClientError):
            super()._let_parcels_go()

    def _let_go(self) -> None:
        if self._reached is None:
            return
        connection, ours = self._reached
        with contextlib.ExitStack() as stack:
            if ours:
                stack.callback(connection.close)
            stack.callback(feed_of(connection.client).remove, self.run_id)
            stack.callback(self._let_parcels_go)
            if self._futures:
                left = self._leave(connection.client) if connection.open else {}
                hurry(connection.client)
                self._await_ends()
                feed = feed_of(connection.client)
                closed = dict.fromkeys(feed.left, math.inf)
                self._fetch_untold()
                self._tell_again({**feed.told_until, **left, **closed}, {*left, *closed})

    def _leave(self, client: distributed.Client) -> dict[str, float]:
        """Let the workers close this flow run's rooms; give up to when each has told the API."""
        left: dict[str, float] = {}

        def leave() -> None:
            try:
                told = client.run(
                    leave_rooms, run_id=self.run_id, last=self._last, on_error="ignore"
                )
                left.update(told)
            except (OSError, TimeoutError, RuntimeError, ValueError) as error:
                _log.debug("workers did not close the rooms of %s: %s", self.run_id, error)

        leaving = threading.Thread(target=leave, daemon=True)
        leaving.start()
        leaving.join(self._patience)
        return left

    def _fetch_untold(self) -> None:
        """Fetch what ended on workers that died before they told of it; give up what is lost."""
        untold = [f for f in self._futures.values() if not f.told]
        if untold:
            with contextlib.suppress(TimeoutError):
                in_background(lambda: fetch(untold)).result(LEAVE)
        for future in untold:
            future.give_up()

    def _await_ends(self) -> None:
        """Wait a moment for the last ends that workers have told."""
        deadline = time.monotonic() + LAST_WORDS
        while time.monotonic() < deadline:
            if all(f.told or f.wrapped_future.status != "finished" for f in self._futures.values()):
                return
            time.sleep(0.01)

    def _tell_again(self, told_until: Mapping[str, float], alive: set[str]) -> None:
        """Tell the API what workers that are gone may not have told it, though their runs ended."""
        surely = {worker: until - LAST_WORDS for worker, until in told_until.items()}
        in_flow = next(iter(self._futures.values())).context.copy()
        unheard = [future.task_run_id for future in self._futures.values() if future.unheard]
        # Their workers may live, and tell it.
        known = in_flow.run(ended_at_api, unheard, LEAVE) if unheard else ()
        for future in self._futures.values():
            if future.task_run_id in known:
                continue
            if future.unheard or not future.told:
                future.tell_again(0, self._task_runs.sample)
            elif future.worker is not None:
                future.tell_again(surely.get(future.worker, 0), self._task_runs.sample)
        in_flow.run(self._end_inner, surely, alive)

    def _end_inner(self, told_until: Mapping[str, float], alive: set[str]) -> None:
        """Tell the API how that ended which ran inside tasks, on workers that are gone."""
        workers = {f.worker for f in self._futures.values() if f.worker} | self._inner_runs.workers
        try:
            self._inner_runs.tell_lost(told_until, alive, self._task_runs.sample)
            if self._flow_run is not None and workers - alive:
                end_subflows(self._flow_run.id, "the worker on which it ran is gone")
        except (httpx.HTTPError, PrefectException) as error:
            _log.warning("what ran inside tasks may stay Running at the API: %s", error)


def _event(
    future: DaskFuture,
    what: Literal["submitted", "ended"],
    state: str,
    *,
    batch: str | None = None,
) -> TaskEvent:
    return TaskEvent(
        what=what,
        id=str(future.task_run_id),
        name=future.name,
        task=future.task,
        state=state,
        batch=batch,
    )


class _Address:
    def __init__(self, address: str) -> None:
        self._address = address

    def scheduler_info(self) -> dict[str, str]:
        return {"address": self._address}
