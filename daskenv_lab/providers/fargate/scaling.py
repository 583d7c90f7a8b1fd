"""More and fewer workers of a cluster in AWS, whoever started those that are there."""

from __future__ import annotations

import contextlib
import secrets
from concurrent.futures import TimeoutError as NotYet
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from daskenv_lab.bounded import Deadline, in_background
from daskenv_lab.errors import ProviderUnreachable, WaitTimeout
from daskenv_lab.providers.fargate import fleet, inscheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daskenv_lab.cluster import ClusterInfo
    from daskenv_lab.providers.connection import Connection
    from daskenv_lab.providers.contract import Progress
    from daskenv_lab.providers.fargate.aws import Aws
    from daskenv_lab.providers.fargate.fleet import Order, Task

_ANSWER_LIMIT = 30.0
# Longer than a scaling takes, as a process that froze in its turn must not block others for ever.
_LONGEST_TURN = 180.0


def scale(
    aws: Aws,
    connection: Connection,
    order: Order,
    n: int,
    *,
    deadline: Deadline,
    progress: Progress,
) -> None:
    """Have `n` workers run, or be about to; one caller at a time, so that none is doubled.

    Raises
    ------
    ClusterStartError
        ECS refuses further tasks, and says why.
    WaitTimeout
        Another session has scaled the cluster for long, or AWS has no room.
    """
    with turn(connection, deadline):
        tasks = fleet.of_cluster(aws, order.ecs_cluster, order.started_by)
        workers = [t for t in tasks if t.role == "worker" and t.wanted]
        if n > len(workers):
            missing = n - len(workers)
            fleet.run(aws, order, missing, deadline=deadline, progress=progress)
        elif n < len(workers):
            chosen = _surplus(connection, workers, len(workers) - n)
            arns = [task.arn for task in chosen]
            fleet.stop(aws, order.ecs_cluster, arns, reason=f"daskenv scale {n}")


def _surplus(connection: Connection, workers: list[Task], n: int) -> list[Task]:
    """Choose `n` workers to stop: those that have not joined yet, then those that hold least."""
    known = {_host(w.address) for w in connection.info().workers}
    waiting = [t for t in workers if t.private_ip not in known][:n]
    joined = {t.private_ip: t for t in workers if t.private_ip in known}
    addresses = on_scheduler(connection, inscheduler.release, n=n - len(waiting))
    released = [joined[host] for a in addresses if (host := _host(a)) in joined]
    return waiting + released


def _host(address: str) -> str | None:
    return urlsplit(address).hostname


@contextlib.contextmanager
def turn(connection: Connection, deadline: Deadline) -> Iterator[None]:
    """Be the only one who starts and stops tasks of a cluster.

    Raises
    ------
    WaitTimeout
        Another session does so for longer than the deadline.
    """
    asked = {
        "token": secrets.token_hex(8),
        "seconds": _LONGEST_TURN,
        "client": connection.client.id,
    }
    while not on_scheduler(connection, inscheduler.take_turn, **asked):
        if deadline.passed:
            raise WaitTimeout(
                f"another session has scaled the cluster {connection.ref.id!r} for "
                f"{deadline.seconds:g} s; look with `daskenv status`, and try again"
            )
        deadline.pause(0.2)
    try:
        yield
    finally:
        with contextlib.suppress(ProviderUnreachable, WaitTimeout):
            on_scheduler(connection, inscheduler.end_turn, token=asked["token"])


def info(connection: Connection) -> ClusterInfo:
    """Tell how the cluster is; whoever only scales it by its load does not count as a client."""
    told = connection.info()
    if not told.adaptive:
        return told
    attending = on_scheduler(connection, inscheduler.attending)
    return replace(told, clients=max(told.clients - attending, 0))


def on_scheduler(connection: Connection, function: Callable[..., Any], **arguments: Any) -> Any:
    """Run a function of `inscheduler` on the scheduler, and give its answer.

    Raises
    ------
    ProviderUnreachable
        The connection broke.
    WaitTimeout
        The scheduler does not answer.
    """
    client = connection.client
    asked = in_background(lambda: client.run_on_scheduler(function, **arguments))
    try:
        return asked.result(_ANSWER_LIMIT)
    except NotYet as error:
        raise WaitTimeout(
            f"the scheduler at {connection.address} does not answer within {_ANSWER_LIMIT:g} s; "
            "look at its log or dashboard"
        ) from error
    except OSError as error:
        raise ProviderUnreachable(
            f"the connection to {connection.address} broke ({error}); try again, or start another "
            "cluster with `daskenv up`"
        ) from error


def workers_by_name(connection: Connection) -> dict[str, str]:
    """Give the workers' addresses by the names that Dask has for them."""
    return {w.name: w.address for w in connection.info().workers}
