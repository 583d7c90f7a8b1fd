"""From words to a session: start a named cluster, or connect to the one that runs."""

from __future__ import annotations

import contextlib
import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from daskenv_lab import config, registry
from daskenv_lab.cluster import ClusterInfo
from daskenv_lab.environments import Environment, environment_of_kind, from_dict
from daskenv_lab.errors import (
    ClusterGone,
    ClusterStartError,
    EnvironmentValueError,
    LeftBehind,
    ProviderError,
    SettingsDiffer,
)
from daskenv_lab.providers import provider_for
from daskenv_lab.session import Session, current, opened, remember
from daskenv_lab.settings import apply_size, differences, merge, sized, table

if TYPE_CHECKING:
    from daskenv_lab.cluster import ClusterRef
    from daskenv_lab.providers.connection import Connection
    from daskenv_lab.providers.contract import Progress, Provider
    from daskenv_lab.registry import Record

_log = logging.getLogger("daskenv_lab")
# Seconds between two looks for why workers do not come, which may cost calls of an API.
_CLOSER_LOOK = 5.0


def environment_for(what: str | Environment | None = None, **settings: Any) -> Environment:
    """Make the environment that a profile, a kind or a class's dotted path stands for.

    Raises
    ------
    UnknownNameError
        There is no such profile; the nearest is named.
    EnvironmentValueError
        A setting does not fit.

    Examples
    --------
    >>> environment_for("local", n_workers=3)
    DaskGatewayEnvironment(gateway_address='local', n_workers=3)
    """
    if isinstance(what, Environment):
        return what.replace(**settings) if settings else what
    kind, arguments = config.profile(what)
    return environment_of_kind(kind, {**arguments, **settings})


def up(
    what: str | Environment | None = None,
    *,
    name: str | None = None,
    replace: bool = False,
    timeout: float | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Session:
    """Start a named cluster, or connect to it if it runs.

    Parameters
    ----------
    what : str or Environment, optional
        A profile, a kind (``"local"``, ``"gateway"``, …), a class's dotted path, or an
        environment; by default ``daskenv.profile``.
    name : str, optional
        By default ``daskenv.name``.
    replace : bool
        Replace a running cluster whose settings differ in what cannot change live.
    timeout : float, optional
        Seconds for a new cluster's start; by default ``daskenv.timeouts.start``.
    progress : callable, optional
        Gets a sentence whenever there is something new to wait for.
    **settings
        Arguments of the environment, such as ``n_workers``.

    Raises
    ------
    SettingsDiffer
        The running cluster would have to be replaced.
    ProviderError
        The provider refused, failed, or took too long.

    Examples
    --------
    >>> session = up("local", name="dev", n_workers=2)  # doctest: +SKIP
    """
    asked = environment_for(what, **settings)
    chosen = config.cluster_name(name)
    tell = progress or _log.info
    record = registry.read(chosen)
    ready = record is not None and record.ready and not replace
    session = _reuse(record, asked, _log.debug) if record and ready else None
    if session is None:
        with registry.lock(chosen, progress=tell):
            session = _reuse_or_create(chosen, asked, replace, timeout, tell)
    return remember(session)


def connect(name: str | None = None) -> Session:
    """Connect to a named cluster that runs, without ever starting one.

    Without a name it is the one used last in this process, or else ``daskenv.name``.

    Raises
    ------
    UnknownNameError
        No cluster has the name; the nearest is named.
    ClusterGone
        It does not run any more.

    Examples
    --------
    >>> session = connect("dev")  # doctest: +SKIP
    """
    last = current()
    chosen = last.name if name is None and last else config.cluster_name(name)
    record = registry.known(chosen)
    return remember(_connected(record, record.environment, hold=False))


def start_unheld(
    name: str, asked: Environment, *, timeout: float | None = None, progress: Progress
) -> Session:
    """Start a cluster for one use: from its start on, `reap` may remove it once it is idle.

    Waits for the first worker, if some are asked for. The name must be new.

    Raises
    ------
    ProviderError
        The provider refused, failed, or took too long, or no worker came.
    """
    provider = provider_for(asked)
    with registry.lock(name, progress=progress), ExitStack() as undo:
        record, connection, asked = _started(name, asked, provider, timeout, progress, held=False)
        info = ClusterInfo(ref=connection.ref, status="running")
        session = Session(record, connection, environment=asked, info=info, reused=False)
        undo.callback(session.down)
        info = _wait_for_workers(provider, connection, asked, progress, most=1)
        if not info.n_workers and _workers_wanted(asked):
            why = "; ".join(provider.troubles(connection)) or "nobody says why"
            raise ClusterStartError(
                f"no worker came to the cluster {name!r} within "
                f"{config.seconds('timeouts.workers'):g} s ({why}); mend that, or allow more with "
                "daskenv.timeouts.workers"
            )
        undo.pop_all()
    return session


def _reuse(record: Record, asked: Environment, tell: Progress) -> Session | None:
    """Connect to a record's cluster; None if it is gone, and why is told."""
    try:
        return _connected(record, asked, hold=True)
    except ClusterGone as gone:
        tell(f"{record.name!r}: {gone}")
        return None


def _connected(record: Record, asked: Environment, *, hold: bool) -> Session:
    """Connect to a record's cluster and let it follow the size that is asked for.

    `hold` takes a cluster back that was let go.

    Raises
    ------
    SettingsDiffer
        It would have to be replaced.
    ClusterGone
        It does not run any more.
    """
    if record.ref is None:
        raise ClusterGone(
            f"the cluster {record.name!r} was never started; start it with `daskenv up`"
        )
    environment = merge(record.environment, asked)
    provider = provider_for(environment)
    with ExitStack() as cleanup:
        former = opened(record.name)
        if former and former.connection.open and former.ref == record.ref:
            connection = former.connection
        else:
            limit = config.seconds("timeouts.connect")
            connection = provider.connect(record.ref, timeout=limit)
            cleanup.callback(provider.close, connection)
        info = provider.info(connection)
        rows = differences(record.environment, asked, info)
        if any(not row.live for row in rows):
            raise SettingsDiffer(
                f"the cluster {record.name!r} runs with other settings than those asked for; "
                f"replace it with --replace, or ask for what runs\n{table(rows)}"
            )
        if rows or _short(asked, info):
            apply_size(provider, connection, asked)
        if rows:
            environment = sized(environment, provider.info(connection))
            registry.update(record.name, record.ref, environment=environment.without_hooks())
        if hold and not record.held:
            connection.set_label(held=True)
            registry.update(record.name, record.ref, held=True)
        cleanup.pop_all()
    return Session(
        record, connection, environment=environment, info=info, reused=True, changes=rows
    )


def _short(asked: Environment, info: ClusterInfo) -> bool:
    """Tell whether workers may be lost, or who scales by the load: asking again brings them."""
    return bool(asked.adaptive) or info.n_workers < (asked.n_workers or 0)


def _reuse_or_create(
    name: str, asked: Environment, replace: bool, timeout: float | None, tell: Progress
) -> Session:
    """Reuse or create, under the name's lock."""
    provider = provider_for(asked)
    record = registry.read(name) or _adopted(name, asked, provider)
    if record is None or record.ref is None:
        return _created(name, asked, provider, timeout, tell)
    if record.ready and not replace:
        session = _reuse(record, asked, tell)
        if session is not None:
            return session
        tell(f"The cluster {name!r} is gone; starting another")
        # A cluster that ended by itself could not remove what is its own beside it.
        former = provider_for(record.environment)
        former.shutdown(record.ref, timeout=config.seconds("timeouts.stop"))
        return _created(name, asked, provider, timeout, tell)
    # Only once the new one runs is the former destroyed: settings may be wrong, or no room left.
    kept = record if record.ready else None
    session = _created(name, asked, provider, timeout, tell, former=kept)
    tell(f"Removing the former cluster {name!r}")
    former = provider_for(merge(record.environment, asked))
    former.shutdown(record.ref, timeout=config.seconds("timeouts.stop"))
    return session


def _created(
    name: str,
    asked: Environment,
    provider: Provider,
    timeout: float | None,
    tell: Progress,
    *,
    former: Record | None = None,
) -> Session:
    """Start a cluster and wait for its workers; the former one's record comes back if it fails."""
    record, connection, asked = _started(name, asked, provider, timeout, tell, former=former)
    info = _wait_for_workers(provider, connection, asked, tell)
    return Session(record, connection, environment=asked, info=info, reused=False)


def _started(
    name: str,
    asked: Environment,
    provider: Provider,
    timeout: float | None,
    tell: Progress,
    *,
    former: Record | None = None,
    held: bool = True,
) -> tuple[Record, Connection, Environment]:
    """Start a cluster; on failure or interruption it goes, and a former record comes back."""
    if asked.n_workers is None and asked.adaptive is None and provider.name != "remote":
        asked = asked.replace(n_workers=config.whole("workers"))
    limit = config.seconds("timeouts.start") if timeout is None else timeout
    record = registry.write(registry.new(name, asked), held=held)

    def note(ref: ClusterRef) -> None:
        registry.write(record, ref=ref)

    with ExitStack() as undo:
        undo.push(_forgetting(name, former))
        ref = provider.create(
            name,
            timeout=limit,
            progress=tell,
            on_submitted=note,
        )
        undo.callback(provider.shutdown, ref, timeout=config.seconds("timeouts.stop"))
        connection = provider.connect(ref, timeout=config.seconds("timeouts.connect"))
        undo.callback(provider.close, connection)
        connection.set_label(
            name=name, owner=config.owner(), fingerprint=asked.fingerprint, held=held,
            environment=asked.without_hooks().to_dict(),
        )  # fmt: skip
        apply_size(provider, connection, asked)
        record = registry.write(record, ref=ref, ready=True)
        undo.pop_all()
    return record, connection, asked


def _forgetting(name: str, former: Record | None) -> Any:
    """Give an exit callback that takes a record back; one that stands for something left stays."""

    def leave(_: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, LeftBehind):
            return
        if former is None:
            registry.forget(name)
        else:
            registry.write(former)

    return leave


def _adopted(name: str, asked: Environment, provider: Provider) -> Record | None:
    """Find a running cluster of ours that this machine has no record of, and record it."""
    try:
        found = [
            info
            for info in provider.find()
            if info.name == name and info.status == "running" and _ours(info)
        ]
    except ProviderError:
        return None  # Creating will fail for the same reason, and say so.
    if not found:
        return None
    record = registry.new(name, _running_environment(found[0].ref, asked, provider))
    return registry.write(record, ref=found[0].ref, ready=True, created_at=found[0].started_at)


def _running_environment(ref: ClusterRef, asked: Environment, provider: Provider) -> Environment:
    """Read with what settings a cluster was made; those asked for, if it does not tell."""
    try:
        connection = provider.connect(ref, timeout=config.seconds("timeouts.connect"))
        with contextlib.closing(connection):
            return merge(from_dict(connection.label()["environment"]), asked)
    except (ProviderError, EnvironmentValueError, KeyError, TypeError):
        return asked


def _ours(info: ClusterInfo) -> bool:
    """Tell whether a cluster is this person's: it let us ask, or names what is before our @."""
    person = str(info.owner).split("@")[0]
    return bool(info.owner) and (info.held is not None or person == config.owner().split("@")[0])


def _workers_wanted(asked: Environment) -> int:
    return asked.adaptive[0] if asked.adaptive else asked.n_workers or 0


def _wait_for_workers(
    provider: Provider,
    connection: Connection,
    asked: Environment,
    tell: Progress,
    *,
    most: int | None = None,
) -> ClusterInfo:
    """Wait for the workers of a new cluster, as long as ``daskenv.timeouts.workers``."""
    wanted = _workers_wanted(asked)
    wanted = wanted if most is None else min(wanted, most)
    deadline = time.monotonic() + config.seconds("timeouts.workers")
    told, look_closer = -1, time.monotonic() + _CLOSER_LOOK
    while (info := provider.info(connection)).n_workers < wanted:
        if info.n_workers > told:
            told = info.n_workers
            tell(f"Waiting for workers: {told} of {wanted} are there")
        if time.monotonic() > deadline:
            tell(f"Only {info.n_workers} of {wanted} workers came; `daskenv logs` may say why")
            break
        if time.monotonic() > look_closer:
            look_closer = time.monotonic() + _CLOSER_LOOK
            if troubles := provider.troubles(connection):
                tell(f"Only {info.n_workers} of {wanted} workers came; {'; '.join(troubles)}")
                break
        time.sleep(0.1)
    return info
