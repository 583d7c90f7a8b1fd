"""Ask the scheduler and the workers what they hold, and set it beside what is here."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from daskenv_lab import config
from daskenv_lab.errors import NotSupported, ProviderError
from daskenv_lab.packages import there
from daskenv_lab.packages.here import brought_by
from daskenv_lab.packages.imports import installed_imports
from daskenv_lab.packages.report import (
    COMPARED,
    Alike,
    Held,
    Need,
    PackageReport,
    counted,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from daskenv_lab.packages.report import Trouble
    from daskenv_lab.providers.connection import Connection

LACKS = "lacks"
"""The key of a cluster's label for the packages that its workers' image lacks."""

_log = logging.getLogger("daskenv_lab")


@dataclass(slots=True)
class _Seen:
    """What is known of one cluster through one connection."""

    workers: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    told: frozenset[Trouble] = frozenset()
    pythons: dict[str, str] = field(default_factory=dict)
    """The versions of Python of workers that have another than this process."""


_seen: WeakKeyDictionary[Connection, _Seen] = WeakKeyDictionary()


def compare(
    connection: Connection, flows: Iterable[Any] = (), *, timeout: float | None = None
) -> PackageReport:
    """Compare packages here with those of a cluster's scheduler and each of its workers.

    What the workers' image lacks is noted where the cluster is, for `lacking`.

    Parameters
    ----------
    connection : Connection
        The cluster.
    flows : iterable
        Flows, tasks or functions, whose imports are looked for too.
    timeout : float, optional
        Seconds for each answer; by default ``daskenv.timeouts.connect``.

    Raises
    ------
    ClusterGone, ProviderUnreachable
        The connection is closed, or broke.
    WaitTimeout
        The scheduler or a worker does not answer.

    Examples
    --------
    >>> compare(session.connection, [etl]).ok  # doctest: +SKIP
    True
    """
    return _compared(connection, needs_of(installed_imports(flows)), timeout)


def needs_of(modules: Iterable[str]) -> tuple[Need, ...]:
    """Say which distribution here brings each module.

    Examples
    --------
    >>> [need.name for need in needs_of(["yaml"])]
    ['pyyaml']
    """
    modules = sorted(modules)
    known = brought_by(modules)
    return tuple(
        Need(module=m, distribution=d, version=importlib.metadata.version(d) if d else None)
        for m, d in ((m, known.get(m)) for m in modules)
    )


def news(
    connection: Connection, workers: Iterable[str], flows: Iterable[Any]
) -> PackageReport | None:
    """Compare packages, and give the report if something matters that was not told before.

    Nobody is asked twice, but those that would be refused: with workers and imports as at the last
    time there is nothing new. A cluster that does not answer soon has no news: whoever uses it will
    hear why.

    Parameters
    ----------
    connection : Connection
        The cluster.
    workers : iterable of str
        The addresses of its workers.
    flows : iterable
        What is about to run.
    """
    seen = _seen.setdefault(connection, _Seen())
    asked, modules = frozenset(workers), installed_imports(flows)
    # One that would be refused is asked again: its Python may have been mended since.
    known = seen.workers - seen.pythons.keys()
    if not asked or (asked <= known and modules <= seen.modules):
        return None
    told = seen.told
    seen.workers, seen.modules = seen.workers | asked, seen.modules | modules
    try:
        limit = config.seconds("packages.patience")
        report = _compared(connection, needs_of(modules), limit)
    except ProviderError as error:
        _log.debug("the packages were not compared: %s", error)
        return None
    return report if {*report.troubles} - told else None


def refuse_other_python(connection: Connection, workers: Iterable[str]) -> None:
    """Refuse to send functions to workers whose Python, as last compared, would die of them.

    Raises
    ------
    NotSupported
        The minor version of Python is another than here on one of the workers.
    """
    seen = _seen.get(connection)
    others = {w: seen.pythons[w] for w in workers if w in seen.pythons} if seen else {}
    if others:
        worker, python = next(iter(others.items()))
        raise NotSupported(
            f"{counted(others)} of the cluster at {connection.address} run another minor version "
            f"of Python ({worker}: {python}) than this process ({platform.python_version()}), and "
            "what is sent there would end them; take an image with the same version"
        )


def forget(connection: Connection) -> None:
    """Let the next `news` look anew."""
    _seen.pop(connection, None)


def imported(connection: Connection) -> frozenset[str]:
    """Name the modules that flows import which ran here on the cluster, or were compared."""
    seen = _seen.get(connection)
    return seen.modules if seen else frozenset()


def lacking(connection: Connection) -> dict[str, str]:
    """Tell what the workers' image lacked when packages were last compared, from anywhere.

    Returns
    -------
    dict of str to str
        The version that is wanted by distribution; empty if nothing is known to be missing.
    """
    return dict(connection.label().get(LACKS) or {})


def note(connection: Connection, lacks: Mapping[str, str], *, anew: Iterable[str] = ()) -> None:
    """Write down, where the cluster is, what its workers' image lacks.

    Parameters
    ----------
    connection : Connection
        The cluster.
    lacks : mapping of str to str
        The version that is wanted by distribution.
    anew : iterable of str
        What was looked for now, and is lacking no more unless it is in `lacks`.
    """
    before = lacking(connection)
    after = {k: v for k, v in before.items() if k not in {*anew}} | dict(lacks)
    if after != before:
        connection.set_label(**{LACKS: after})


def _compared(
    connection: Connection, needs: tuple[Need, ...], timeout: float | None
) -> PackageReport:
    scheduler, versions = connection.versions(COMPARED, timeout=timeout)
    own = tuple(n.distribution for n in needs if n.distribution)
    modules = tuple(n.module for n in needs)
    same = [w for w, told in versions.items() if _minor(told["python"]) == sys.version_info[:2]]
    answers = connection.on_workers(there.held, own, modules, workers=same, timeout=timeout)
    silent = [w for w, answer in answers.items() if isinstance(answer, BaseException)]
    held = {
        worker: _held(told, answers.get(worker, {}))
        for worker, told in sorted(versions.items())
        if worker not in silent
    }
    here = {"python": platform.python_version(), **{n: there.version(n) for n in COMPARED}}
    report = PackageReport(
        here=_held(here, there.held(own, modules)),
        scheduler=_held(scheduler, {}),
        groups=_grouped(held),
        silent=tuple(silent),
        needs=needs,
    )
    seen = _seen.setdefault(connection, _Seen())
    seen.workers |= {*report.workers, *silent}
    seen.modules |= {*modules}
    seen.told |= {*report.troubles}
    others = {g.held.python: set(g.workers) - set(report.alike) for g in report.groups}
    # One whose Python was mended may come back at the same address.
    seen.pythons = {w: p for w, p in seen.pythons.items() if w not in report.workers}
    seen.pythons |= {worker: python for python, ws in others.items() for worker in ws}
    if report.workers and (needs or report.lacking):
        note(connection, report.lacking, anew=[n.name for n in needs])
    return report


def _held(versions: Mapping[str, Any], more: Mapping[str, Any]) -> Held:
    """Put together what Dask tells of versions, and what `there.held` tells."""
    fixed = {name: versions.get(name) for name in COMPARED}
    return Held(
        # Dask tells 3.11.7.final.0.
        python=".".join(str(versions["python"]).split(".")[:3]),
        versions={**fixed, **more.get("versions", {})},
        absent=frozenset(more.get("absent", ())),
        installed=more.get("installed", {}),
        failures=tuple(more.get("failures", ())),
    )


def _grouped(held: Mapping[str, Held]) -> tuple[Alike, ...]:
    groups: list[tuple[Held, list[str]]] = []
    for worker, what in held.items():
        workers = next((w for other, w in groups if other == what), None)
        if workers is None:
            groups.append((what, [worker]))
        else:
            workers.append(worker)
    return tuple(Alike(workers=tuple(workers), held=what) for what, workers in groups)


def _minor(python: str) -> tuple[int, ...]:
    return tuple(int(part) for part in python.split(".")[:2])
