"""`DaskExecutor`: run a flow's tasks on a cluster that runs already."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from daskenv_lab import config
from daskenv_lab.errors import ClusterGone, FlowError, NotPicklable
from daskenv_lab.flows.events import Listener, TaskEvent, feed_of
from daskenv_lab.flows.onworker import DaskRunner, WorkerRunner, leave_rooms
from daskenv_lab.flows.shipping import CannotTravel
from daskenv_lab.flows.target import Reached, reach
from daskenv_lab.flows.unfinished import note

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import distributed
    from prefect import Task

    from daskenv_lab.flows.future import DaskFuture

_log = logging.getLogger(__name__)

LEAVE = 8.0
"""Seconds that the end of a flow run waits for workers to close its rooms."""


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
        self._ended: set[str] = set()
        self._note: Path | None = None

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
                self._reached = reach(
                    self.target, security=self.security, client_kwargs=self._given_kwargs
                )
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
        twin.listeners = self.listeners
        return twin

    def submit(
        self,
        task: Task[Any, Any],
        parameters: dict[str, Any],
        wait_for: Any = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> DaskFuture:
        """Send one call of a task to the cluster; Prefect calls it for `task.submit`.

        Raises
        ------
        NotPicklable
            The task, or an argument, cannot travel.
        """
        try:
            future = super().submit(task, parameters, wait_for, dependencies)
        except CannotTravel as error:
            raise NotPicklable(str(error)) from error.__cause__
        if self._note is None and self._flow_run is not None:
            self._note = note(str(self._flow_run.id))
        self._tell(
            TaskEvent(
                what="submitted",
                id=str(future.task_run_id),
                name=future.task_run.name,
                task=task.name,
                state="Pending",
            )
        )
        future.wrapped_future.add_done_callback(lambda _: self._on_dask_done(future, task.name))
        return future

    def __exit__(self, exc_type: Any, exc_value: Any, trace: Any) -> None:
        try:
            if self._futures:
                self.finish(ok=exc_type is None and self.flow_completed)
        finally:
            self._let_go()
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

    def _on_event(self, event: TaskEvent) -> None:
        future = self._futures.get(event.id)
        if future is not None:
            future.started = True
        if event.what == "ended":
            self._ended.add(event.id)
        self._tell(event)

    def _on_dask_done(self, future: DaskFuture, task: str) -> None:
        # A worker tells of the end of each call that it could finish.
        task_run_id = str(future.task_run_id)
        if future.wrapped_future.status == "finished" or task_run_id in self._ended:
            return
        self._ended.add(task_run_id)
        state = "Cancelled" if future.cancelled and not future.started else "Crashed"
        self._tell(
            TaskEvent(
                what="ended", id=task_run_id, name=future.task_run.name, task=task, state=state
            )
        )

    def _tell(self, event: TaskEvent) -> None:
        for listener in self.listeners:
            listener(event)

    def _let_go(self) -> None:
        if self._reached is None:
            return
        connection, ours = self._reached
        feed_of(connection.client).remove(self.run_id)
        try:
            if self._futures and connection.open:
                leaving = threading.Thread(
                    target=_leave, args=(connection.client, self.run_id), daemon=True
                )
                leaving.start()
                leaving.join(LEAVE)
        finally:
            if ours:
                connection.close()


class _Address:
    def __init__(self, address: str) -> None:
        self._address = address

    def scheduler_info(self) -> dict[str, str]:
        return {"address": self._address}


def _leave(client: distributed.Client, run_id: str) -> None:
    try:
        client.run(leave_rooms, run_id=run_id, on_error="ignore")
    except (OSError, TimeoutError, RuntimeError, ValueError) as error:
        _log.debug("workers did not close the rooms of %s: %s", run_id, error)
