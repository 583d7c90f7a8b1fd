"""The cluster of one flow run: started while the run waits, and always taken down."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from daskenv_lab import config, registry
from daskenv_lab.bounded import in_background
from daskenv_lab.environments import (
    EMBEDDED,
    DaskCloudProviderEnvironment,
    DaskGatewayEnvironment,
)
from daskenv_lab.errors import ClusterStartError, DaskEnvLabError, LeftBehind
from daskenv_lab.lifecycle import start_unheld
from daskenv_lab.providers import provider_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from daskenv_lab.environments import Environment
    from daskenv_lab.session import Session

_log = logging.getLogger("daskenv_lab")


class RunCluster:
    """A cluster for one flow run.

    It is started in a thread of its own, so that a signal interrupts the waiting and not the
    start, and what was half started can be found and removed.

    Parameters
    ----------
    environment : Environment
        What the cluster is made from.
    name : str
        A new name, which says whose cluster it is: the flow run's.
    say : callable
        Told what is being waited for.
    """

    def __init__(self, environment: Environment, name: str, say: Callable[[str], None]) -> None:
        self.environment = _with_idle_timeout(environment)
        self.name = name
        self._say = say
        self._starting: Future[Session] | None = None
        self._given_up = False

    def start(self) -> Session:
        """Start the cluster and wait for it.

        Raises
        ------
        ProviderError
            It did not start; nothing is left of it.
        """
        self._starting = in_background(self._start)
        return self._starting.result()

    def stop(self) -> None:
        """Take the cluster down, also one that is still being started. May be called twice.

        Raises
        ------
        ProviderError
            Something is left running, which `reap` removes.
        """
        starting, self._starting = self._starting, None
        if starting is None:
            return
        limit = config.seconds("timeouts.stop")
        if not starting.done():
            self._give_up(limit)
        try:
            session = starting.result(limit)
        except TimeoutError as error:
            raise LeftBehind(
                f"the start of {self.name!r} could not be ended within {limit:g} s; look with "
                "`daskenv ls` what is left, and remove it with `daskenv reap`"
            ) from error
        except LeftBehind:
            raise
        except DaskEnvLabError as error:
            _log.debug("%s did not start: %s", self.name, error)
            return
        session.down()

    def _start(self) -> Session:
        session = start_unheld(self.name, self.environment, progress=self._tell)
        if self._given_up:
            # It was ready before it could be stopped.
            session.down()
            raise ClusterStartError(f"the cluster {self.name!r} is not wanted any more")
        return session

    def _tell(self, sentence: str) -> None:
        if self._given_up:
            raise ClusterStartError(f"the cluster {self.name!r} is not wanted any more")
        self._say(sentence)

    def _give_up(self, limit: float) -> None:
        """Let the start fail: its own thread removes what it has made."""
        self._given_up = True
        record = registry.read(self.name)
        if record is not None and record.ref is not None:
            with contextlib.suppress(DaskEnvLabError):
                provider_for(record.environment).shutdown(record.ref, timeout=limit)


def _with_idle_timeout(environment: Environment) -> Environment:
    """Let a cluster whose flow run was killed end sooner than one that is held in a lab."""
    match environment:
        case DaskGatewayEnvironment(gateway_address=address) if address == EMBEDDED:
            option = "idle_timeout"
        case DaskCloudProviderEnvironment() if environment.short_name:
            option = "scheduler_timeout"
        case _:
            return environment
    if option in environment.extra:
        return environment
    return environment.replace(**{option: config.get("production.idle-timeout")})
