"""All clusters together: list them, let go of them, destroy them, remove what nobody holds."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from daskenv_lab import config, registry, rehearsal
from daskenv_lab.cluster import ClusterInfo
from daskenv_lab.environments import (
    EMBEDDED,
    DaskCloudProviderEnvironment,
    DaskGatewayEnvironment,
)
from daskenv_lab.errors import (
    DaskEnvLabError,
    ProviderError,
    UnknownNameError,
)
from daskenv_lab.lifecycle import environment_for
from daskenv_lab.providers import provider_for
from daskenv_lab.session import current, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskenv_lab.environments import Environment
    from daskenv_lab.registry import Record

_log = logging.getLogger("daskenv_lab")


def ls(what: str | Environment | None = None) -> list[ClusterInfo]:
    """List our clusters, and the others that run at the same providers.

    Parameters
    ----------
    what : str or Environment, optional
        A further profile, kind or environment, whose provider is asked too.

    Returns
    -------
    list of ClusterInfo
        Ours first. The status is ``gone`` for a record whose cluster does not run any more, and
        ``unreachable`` where the provider does not answer.

    Examples
    --------
    >>> [info.name for info in ls()]  # doctest: +SKIP
    ['dev']
    """
    found, silent = _found(what)
    rows = []
    for record in _records():
        info = next((i for i in found if i.ref == record.ref), None)
        if info is None:
            status = "unreachable" if _place(record.environment) in silent else "gone"
            if record.ref is None:
                continue  # Being created at this moment, or its creator died.
            info = ClusterInfo(ref=record.ref, status=status)
        rows.append(replace(info, name=record.name, held=record.held))
    named = {row.ref for row in rows}
    return rows + [info for info in found if info.ref not in named]


def detach(name: str | None = None) -> None:
    """Let go of a cluster: it lives on, and `reap` may remove it once it is idle.

    Raises
    ------
    UnknownNameError
        No cluster has the name.
    """
    chosen = _chosen(name)
    session = opened(chosen)
    if session is not None and session.connection.open:
        session.detach()
        return
    with registry.lock(chosen, progress=_log.info):
        record = registry.known(chosen)
        registry.write(record, held=False)
        if record.ref is not None:
            provider = provider_for(record.environment)
            connection = provider.connect(record.ref, timeout=config.seconds("timeouts.connect"))
            try:
                connection.set_label(held=False)
            finally:
                provider.close(connection)


def down(name: str | None = None, *, timeout: float | None = None) -> None:
    """Destroy a cluster and wait until it is gone; no error if it is gone already.

    Raises
    ------
    UnknownNameError
        No cluster has the name.
    WaitTimeout
        It is still there after `timeout` seconds (``daskenv.timeouts.stop``).

    Examples
    --------
    >>> down("dev")  # doctest: +SKIP
    """
    chosen = _chosen(name)
    session = opened(chosen)
    if session is not None:
        session.down(timeout=timeout)
        return
    with registry.lock(chosen, progress=_log.info):
        _destroy(registry.known(chosen), timeout)


def down_all(*, timeout: float | None = None) -> list[str]:
    """Destroy all recorded clusters, and stop the embedded Gateway and the local Prefect API.

    Returns
    -------
    list of str
        What was stopped.

    Raises
    ------
    ProviderError
        One could not be destroyed; the others were.
    """
    stopped = []
    failures: list[DaskEnvLabError] = []
    for name in registry.names():
        try:
            down(name, timeout=timeout)
            stopped.append(name)
        except UnknownNameError:
            continue  # Its record was damaged and is kept aside.
        except DaskEnvLabError as error:
            failures.append(error)
    limit = config.seconds("timeouts.stop") if timeout is None else timeout
    for server, stop in _servers().items():
        try:
            if stop(limit):
                stopped.append(server)
        except DaskEnvLabError as error:
            failures.append(error)
    if failures:
        raise ProviderError(
            f"{len(failures)} of the clusters and servers could not be stopped: {failures[0]}"
        ) from failures[0]
    return stopped


def reap(
    what: str | Environment | None = None, *, idle: float | None = None, dry_run: bool = False
) -> list[ClusterInfo]:
    """Remove the clusters of ours that nobody holds.

    Those are: a detached cluster, one that no record names (its creator died, or its record was
    lost), and one that was half created; without connected clients, and without tasks for `idle`
    seconds. A cluster that another machine made and holds is left alone, and so are those that
    are not ours.

    Parameters
    ----------
    what : str or Environment, optional
        A further profile, kind or environment, whose provider is asked too.
    idle : float, optional
        Seconds; by default ``daskenv.reap.idle``.
    dry_run : bool
        Only list them.

    Returns
    -------
    list of ClusterInfo
        What was removed, or would be.
    """
    limit = config.seconds("reap.idle") if idle is None else idle
    found, silent = _found(what)
    unused = [info for info in found if _unused(info, limit)]
    removed = [info for info in unused if _reaped(info, what, dry_run=dry_run)]
    return removed + _reap_left_records(found, silent, dry_run=dry_run)


def _unused(info: ClusterInfo, limit: float) -> bool:
    """Tell whether a cluster does nothing for anybody; one that only starts is somebody's."""
    if info.status == "failed":
        # A part of a cluster, which its maker may be about to complete.
        return (info.uptime or 0) > config.seconds("timeouts.start")
    return info.status == "running" and not info.clients and info.idle >= limit


def _reaped(info: ClusterInfo, what: str | Environment | None, *, dry_run: bool) -> bool:
    """Remove a cluster if nobody holds it, which is looked at under its name's lock."""
    record = next((r for r in _records() if r.ref == info.ref), None)
    name = record.name if record else info.name
    with registry.try_lock(name) if name else contextlib.nullcontext(True) as free:
        record = next((r for r in _records() if r.ref == info.ref), None)
        unheld = not record.held if record else _ours(info)
        if not free or not unheld:
            return False
        if dry_run:
            return True
        place = record.environment if record else _environment_at(info, what)
        limit = config.seconds("timeouts.stop")
        try:
            provider_for(place).shutdown(info.ref, timeout=limit)
        except ProviderError as error:
            _log.warning("%s", error)
            return False
        if record is not None:
            registry.forget(record.name)
    return True


def _environment_at(info: ClusterInfo, what: str | Environment | None) -> Environment:
    """Give an environment whose provider runs a cluster."""
    places = _places(what)
    same = [e for (word, _), e in places.items() if word == info.ref.provider]
    exact = [e for (_, where), e in places.items() if where and where == info.ref.location]
    return (exact or same)[0]


def _ours(info: ClusterInfo) -> bool:
    """Tell whether a cluster without a record is ours to remove."""
    if info.owner is not None:
        return info.owner == config.owner() or info.held is False
    # The embedded Gateway runs nobody else's clusters; one without a label was never finished.
    return info.ref.provider == "local"


def _reap_left_records(
    found: list[ClusterInfo], silent: set[tuple[str, str]], *, dry_run: bool
) -> list[ClusterInfo]:
    """Remove records whose creator died before the cluster was ready, or whose cluster is gone."""
    removed = []
    running = {info.ref for info in found if info.status != "failed"}
    for record in _records():
        gone = record.ref not in running and _place(record.environment) not in silent
        if record.ready and not gone:
            continue
        with registry.try_lock(record.name) as free:
            if not free or registry.read(record.name) != record:
                continue  # Somebody works on it.
            try:
                if not dry_run:
                    _destroy(record, None)
            except ProviderError as error:
                _log.warning("%s", error)
                continue
            if record.ref is not None:
                status = "gone" if record.ready else "failed"
                removed.append(ClusterInfo(ref=record.ref, status=status, name=record.name))
    return removed


def _destroy(record: Record, timeout: float | None) -> None:
    if record.ref is not None:
        registry.doom(record)
        limit = config.seconds("timeouts.stop") if timeout is None else timeout
        provider_for(record.environment).shutdown(record.ref, timeout=limit)
    registry.forget(record.name)


def _servers() -> dict[str, Callable[[float], object]]:
    """Name the background servers, and how each is stopped within a time."""
    from daskenv_lab.flows.api import stop_local_api
    from daskenv_lab.providers.local import stop_server

    return {
        "the embedded Gateway": stop_server,
        "the local Prefect API": stop_local_api,
        "the rehearsal": rehearsal.stop,
    }


def _found(
    what: str | Environment | None,
) -> tuple[list[ClusterInfo], set[tuple[str, str]]]:
    """Ask each provider once for what it runs, and note those that do not answer."""
    found: dict[object, ClusterInfo] = {}
    silent = set()
    for place, environment in _places(what).items():
        try:
            for info in provider_for(environment).find():
                found[info.ref] = info
        except ProviderError as error:
            silent.add(place)
            _log.warning("%s", error)
    return list(found.values()), silent


def _places(what: str | Environment | None) -> dict[tuple[str, str], Environment]:
    """Give one environment for each provider and address that we know of."""
    environments = [DaskGatewayEnvironment(EMBEDDED), *(r.environment for r in _records())]
    with contextlib.suppress(DaskEnvLabError):
        environments.append(environment_for())
    if what is not None:
        environments.append(environment_for(what))
    return {_place(environment): environment for environment in environments}


def _place(environment: Environment) -> tuple[str, str]:
    provider = provider_for(environment).name
    if isinstance(environment, DaskCloudProviderEnvironment) and environment.short_name:
        region = environment.provider_kwargs.get("region_name", "")
        return provider, "rehearsal" if environment.rehearse else str(region)
    where = [getattr(environment, k, "") for k in ("gateway_address", "provider_class", "address")]
    return provider, next((str(w) for w in where if w), "")


def _records() -> list[Record]:
    return [record for name in registry.names() if (record := registry.read(name)) is not None]


def _chosen(name: str | None) -> str:
    session = current()
    return session.name if name is None and session is not None else config.cluster_name(name)
