"""`FlowRunExecutor`: a task runner that makes a cluster for each flow run."""

from __future__ import annotations

import contextvars
import logging
from typing import TYPE_CHECKING, Any

from prefect.client.orchestration import get_client
from prefect.logging.loggers import flow_run_logger
from prefect.states import Failed

from daskenv_lab.errors import DaskEnvLabError, FlowError
from daskenv_lab.flows import DaskExecutor
from daskenv_lab.flows.prefect3 import (
    current_flow,
    current_flow_run,
    current_parameters,
    current_runner,
)
from daskenv_lab.flows.target import Reached
from daskenv_lab.production.cluster import RunCluster
from daskenv_lab.production.hooks import with_hook
from daskenv_lab.production.image import image_of
from daskenv_lab.production.override import overridden
from daskenv_lab.production.signals import signals_held
from daskenv_lab.providers import provider_for

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

    from daskenv_lab.environments import Environment, Hook

_log = logging.getLogger("daskenv_lab")


class FlowRunExecutor(DaskExecutor):
    """A task runner that makes a cluster when a flow run first submits a task, and removes it.

    A flow run that submits no task makes no cluster. A nested flow whose environment is equal to
    its parent's shares the parent's cluster; with another it has a cluster of its own.

    Parameters
    ----------
    environment : Environment
        What the clusters are made from. It is never changed.

    Examples
    --------
    >>> from daskenv_lab import DaskGatewayEnvironment
    >>> FlowRunExecutor(DaskGatewayEnvironment("local"))
    FlowRunExecutor(DaskGatewayEnvironment(gateway_address='local'))
    """

    _last = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.environment = environment
        self._parent: FlowRunExecutor | None = None
        self._parents_context = contextvars.Context()
        self._cluster: RunCluster | None = None
        self._began: Environment | None = None
        self._failure: Exception | None = None
        self._logger: Any = _log

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FlowRunExecutor):
            return NotImplemented
        return self.environment == other.environment

    def __reduce__(self) -> tuple[Any, ...]:
        if current_flow() is not None:
            # What a flow run pickles goes to workers, where the runner is the workers' own.
            return super().__reduce__()
        # `flow.serve` pickles its flow for the process of each flow run.
        return type(self), (self.environment.without_secret_values(),)

    def __repr__(self) -> str:
        return f"FlowRunExecutor({self.environment!r})"

    def duplicate(self) -> FlowRunExecutor:
        """Make another for the same environment; Prefect asks for one for each flow run."""
        twin = type(self)(self.environment)
        twin.listeners, twin.say = self.listeners, self.say
        # The context is still that of the flow that calls this one, if there is one.
        runner = current_runner()
        if isinstance(runner, FlowRunExecutor) and runner == self:
            twin._parent, twin._last = runner, False
            twin._parents_context = contextvars.copy_context()
        return twin

    def __exit__(self, exc_type: Any, exc_value: Any, trace: Any) -> None:
        try:
            super().__exit__(exc_type, exc_value, trace)
        finally:
            with signals_held():
                self._end()

    def _open(self) -> Reached:
        if self._parent is not None:
            # Starts the cluster, if this is its first use: for the parent, with its parameters.
            self._parents_context.run(getattr, self._parent, "client")
            return self._parent.shared()
        if self._failure is not None:
            # The first failure is the flow run's; another attempt has another runner.
            raise self._failure
        flow_run = current_flow_run()
        if flow_run is None:
            raise FlowError(
                f"{self!r} makes a cluster for a flow run, and there is none; submit tasks inside "
                "a flow, or use a session's executor"
            )
        try:
            return self._start(flow_run)
        except Exception as error:
            self._failure = error
            raise

    def shared(self) -> Reached:
        """Give the connection for a nested flow, which may not close it."""
        assert self._reached is not None  # noqa: S101 - whoever shares has asked for the client
        return Reached(self._reached.connection, ours=False)

    def _start(self, flow_run: FlowRun) -> Reached:
        self._flow_run_id = flow_run.id
        self._logger = flow_run_logger(flow_run, current_flow())
        parameters = current_parameters()
        chosen, sources = overridden(self.environment, parameters)
        for source in sources:
            self._logger.info("The environment is changed by %s", source)
        self._began = chosen
        if chosen.on_start is not None:
            chosen.on_start()
        chosen = self._with_image(with_hook(chosen, parameters), flow_run)
        self._cluster = RunCluster(chosen, f"flow-run-{flow_run.id}", self._logger.debug)
        session = self._cluster.start()
        self._logger.info(
            "Dask cluster created. Scheduler address: %s Dashboard: %s",
            session.scheduler_address,
            session.dashboard_link or "none",
        )
        return Reached(session.connection, ours=False)

    def _with_image(self, environment: Environment, flow_run: FlowRun) -> Environment:
        if environment.image or not provider_for(environment).takes_image():
            return environment
        found = image_of(flow_run)
        if found is None:
            return environment
        self._logger.info("The cluster's image is %s, from %s", found.name, found.source)
        return environment.replace(image=found.name)

    def _end(self) -> None:
        """Take down what this flow run has started, and call its last hook."""
        cluster, self._cluster = self._cluster, None
        began, self._began = self._began, None
        try:
            if cluster is not None:
                cluster.stop()
                self._logger.info("Dask cluster removed")
        except DaskEnvLabError as error:
            # The flow run's own outcome stands.
            self._logger.warning("The Dask cluster could not be removed: %s", error)
        finally:
            if began is not None and began.on_exit is not None:
                self._call_last(began.on_exit)

    def _call_last(self, on_exit: Hook) -> None:
        """Call the hook; if it fails, so does the flow run, though the API has its outcome."""
        try:
            on_exit()
        except Exception as error:
            with get_client(sync_client=True) as client:
                failed: State[Any] = Failed(
                    message=f"on_exit failed: {type(error).__name__}: {error}"
                )
                client.set_flow_run_state(self._flow_run_id, failed, force=True)
            raise
