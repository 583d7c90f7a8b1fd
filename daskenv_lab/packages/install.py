"""Install on a cluster's workers, while it runs, the pure packages that they lack."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskenv_lab import config
from daskenv_lab.environments.secret import mask
from daskenv_lab.errors import PackageError
from daskenv_lab.packages import compare, there
from daskenv_lab.packages.here import needed_by_dask_and_prefect, required_by, why_not_pure
from daskenv_lab.packages.report import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from daskenv_lab.packages.report import PackageReport
    from daskenv_lab.providers.connection import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What can be installed on workers while they run, and what cannot.

    Examples
    --------
    >>> Plan(pins={"tabulate": "0.9.0"}).told
    'tabulate 0.9.0'
    """

    pins: Mapping[str, str] = field(default_factory=dict)
    """The version that is here, by distribution; what they need and is missing is among them."""

    refused: Mapping[str, str] = field(default_factory=dict)
    """Why not, by distribution."""

    @property
    def told(self) -> str:
        """What would be installed."""
        return ", ".join(f"{name} {version}" for name, version in self.pins.items())


def plan(connection: Connection, report: PackageReport) -> Plan:
    """See which of the packages that workers lack could be installed on them.

    Those are pure Python, installed here from an index as a wheel, with all that they need in
    turn; nothing that Dask or Prefect need themselves.

    Raises
    ------
    ProviderError
        The cluster does not answer.

    Examples
    --------
    >>> plan(session.connection, report).told  # doctest: +SKIP
    'tabulate 0.9.0'
    """
    missing = [n.distribution for n in report.missing if n.distribution]
    refused = {n.module: "no package here brings it" for n in report.missing if not n.distribution}
    if not missing:
        return Plan(refused=refused)
    if len(report.alike) < len(report.workers):
        return Plan(refused=dict.fromkeys(missing, "there are workers of another Python"))
    known = tuple(_with_needs(missing))
    answers = connection.on_workers(there.held, known, (), workers=report.alike)
    held = [a["versions"] for a in answers.values() if not isinstance(a, BaseException)]
    pins: dict[str, str] = {}
    for name in missing:
        chosen, why = _chosen(name, held)
        if why:
            refused[name] = why
        else:
            pins |= {n: importlib.metadata.version(n) for n in chosen}
    return Plan(pins=pins, refused=refused)


def install(connection: Connection, planned: Plan) -> str:
    """Install on each worker what it lacks, also on those that come later, and say so.

    It lies in a folder of each worker's own and goes with the worker; what is installed in its
    image is neither changed nor hidden. ``daskenv.packages.pip-options`` are pip's.

    Raises
    ------
    PackageError
        pip failed on a worker; workers that come later are left alone then.
    ProviderError
        The cluster does not answer.

    Examples
    --------
    >>> install(session.connection, plan(session.connection, report))  # doctest: +SKIP
    'Installed tabulate 0.9.0 on 2 workers, and on those that come; it goes with the workers'
    """
    from daskenv_lab.packages.plugin import InstallPure

    if not planned.pins:
        raise PackageError(f"nothing can be installed{refusals(planned)}")
    limit = config.seconds("packages.install-timeout")
    options = config.words("packages.pip-options")
    content = json.dumps([planned.pins, options])
    name = f"daskenv-packages-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    patience = limit + config.seconds("timeouts.connect")
    plugin = InstallPure(name, planned.pins, options, limit)
    connection.register(plugin, name=name, timeout=patience)
    workers = [worker.address for worker in connection.info().workers]
    answers = connection.on_workers(there.held, tuple(planned.pins), (), workers=workers)
    failed = {who: why for who, a in answers.items() if (why := _failure(a, planned.pins))}
    compare.forget(connection)
    if failed:
        connection.unregister(name)
        who, why = next(iter(failed.items()))
        raise PackageError(
            f"{planned.told} could not be installed on {len(failed)} of {counted(answers)} "
            f"({who}: {mask(why)}); add it to the image, or tell pip where to look with "
            "daskenv.packages.pip-options"
        )
    compare.note(connection, planned.pins)
    it, goes = ("it", "goes") if len(planned.pins) == 1 else ("they", "go")
    return (
        f"Installed {planned.told} on {counted(answers)}, and on those that come; "
        f"{it} {goes} with the workers"
    )


def refusals(planned: Plan) -> str:
    """Say what cannot be installed, as the end of a sentence.

    >>> refusals(Plan(refused={"polars": "it is not pure Python"}))
    ': polars (it is not pure Python); add it to the image'
    """
    if not planned.refused:
        return ", as nothing is known to be missing; name the flow whose imports count"
    told = ", ".join(f"{name} ({why})" for name, why in planned.refused.items())
    it = "it" if len(planned.refused) == 1 else "them"
    return f": {told}; add {it} to the image"


def _with_needs(distributions: Iterable[str]) -> dict[str, None]:
    """Name the distributions and all that they need in turn."""
    known: dict[str, None] = {}
    waiting = list(distributions)
    while waiting:
        name = waiting.pop(0)
        if name not in known:
            known[name] = None
            waiting += required_by(name)
    return known


def _chosen(
    distribution: str, held: Sequence[Mapping[str, str | None]]
) -> tuple[list[str], str | None]:
    """Give what must be installed for one distribution, or why that cannot be."""
    chosen: list[str] = []
    for name in _with_needs([distribution]):
        if all(versions.get(name) for versions in held):
            continue
        if name in needed_by_dask_and_prefect():
            why: str | None = "Dask or Prefect need it themselves, so that the image is not whole"
        else:
            why = why_not_pure(name)
        if why:
            return [], why if name == distribution else f"it needs {name}: {why}"
        chosen.append(name)
    return chosen, _unfit(distribution, held)


def _unfit(distribution: str, held: Sequence[Mapping[str, str | None]]) -> str | None:
    """Say which package on the workers is not the version that one to be installed needs."""
    for name in _with_needs([distribution]):
        for needed, requirement in required_by(name).items():
            for version in {v for versions in held if (v := versions.get(needed))}:
                if not requirement.specifier.contains(version, prereleases=True):
                    return f"it needs {requirement}, and workers have {needed} {version}"
    return None


def _failure(answer: Any, pins: Mapping[str, str]) -> str | None:
    """Say why a worker has not all that was to be installed there."""
    if isinstance(answer, BaseException):
        return str(answer)
    if all(answer["versions"].get(name) for name in pins):
        return None
    return "; ".join(answer["failures"]) or "it is not there"
