"""What the three sides of a cluster have installed, side by side, and what of it matters."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from daskenv_lab.phrases import many

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class _Rule(NamedTuple):
    """When two versions of a package do not go together."""

    parts: int
    """How many parts of the version must be the same; 0 means that none matters."""

    why: str
    scheduler: bool = False
    """Whether the scheduler's version matters too."""


_RULES: Mapping[str, _Rule] = {
    "dask": _Rule(2, "graphs may be understood differently", scheduler=True),
    "distributed": _Rule(2, "messages may be understood differently", scheduler=True),
    "cloudpickle": _Rule(2, "pickled functions may fail there", scheduler=True),
    "prefect": _Rule(2, "task runs may fail, or be recorded differently"),
    "msgpack": _Rule(1, "messages may be understood differently", scheduler=True),
    "lz4": _Rule(0, ""),
    "tornado": _Rule(0, ""),
    "toolz": _Rule(0, ""),
    "numpy": _Rule(1, "pickled arrays may fail there"),
    "pandas": _Rule(1, "pickled tables may fail there"),
}

COMPARED = tuple(_RULES)
"""The distributions that are compared whatever a flow imports."""

_OF_A_FLOW = _Rule(1, "its objects may not unpickle there")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one interpreter holds of that which was asked for."""

    python: str
    versions: Mapping[str, str | None]
    """The version of each distribution; None where it is not installed."""

    absent: frozenset[str] = frozenset()
    """The modules that cannot be imported."""

    installed: Mapping[str, str] = field(default_factory=dict)
    """What was installed on a running worker, and is not in its image."""

    failures: tuple[str, ...] = ()
    """Why packages could not be installed on a running worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """The workers that hold the same."""

    workers: tuple[str, ...]
    """Their addresses."""

    held: Held


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A module that a flow imports, and the distribution that brings it here."""

    module: str
    distribution: str | None = None
    version: str | None = None

    @property
    def name(self) -> str:
        """The distribution's name, or else the module's."""
        return self.distribution or self.module


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that may fail, because two sides differ.

    Examples
    --------
    >>> Trouble(package="polars", weight="bad", told="missing on 2 workers", why="imported").told
    'missing on 2 workers'
    """

    package: str
    weight: str
    """``bad`` where something will fail, ``warning`` where it may."""

    told: str
    why: str

    def __str__(self) -> str:
        return f"{self.package} {self.told}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageReport:
    """What is installed here, on the scheduler and on the workers.

    Examples
    --------
    >>> here = Held(python="3.11.7", versions={"dask": "2026.8.0"})
    >>> there = Alike(workers=("tcp://w:1",), held=Held(python="3.12.1", versions=here.versions))
    >>> report = PackageReport(here=here, scheduler=here, groups=(there,))
    >>> print(*report.troubles)
    python is 3.11.7 here and 3.12.1 on 1 worker: pickled functions fail between minor versions
    """

    here: Held
    scheduler: Held
    groups: tuple[Alike, ...]
    silent: tuple[str, ...] = ()
    """Workers that did not answer."""

    needs: tuple[Need, ...] = ()
    """What the flows import that is installed here."""

    @property
    def workers(self) -> tuple[str, ...]:
        """The addresses of the workers that answered."""
        return tuple(address for group in self.groups for address in group.workers)

    @property
    def alike(self) -> tuple[str, ...]:
        """The addresses of the workers whose Python is this one, but for its last number."""
        same = _parts(self.here.python, 2)
        groups = [g for g in self.groups if _parts(g.held.python, 2) == same]
        return tuple(address for group in groups for address in group.workers)

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What may fail, the worst first."""
        found = [*self._python(), *self._missing(), *self._versions()]
        if self.silent:
            told = f"are unknown on {counted(self.silent)}"
            found.append(_warning("packages", told, "no answer came"))
        return tuple(sorted(found, key=lambda t: t.weight))

    @property
    def ok(self) -> bool:
        """Whether nothing is known that may fail."""
        return not self.troubles

    @property
    def missing(self) -> tuple[Need, ...]:
        """What the flows import and some worker cannot, as it is now."""
        return tuple(n for n in self.needs if any(n.module in g.held.absent for g in self.groups))

    @property
    def lacking(self) -> dict[str, str]:
        """What the workers' image lacks, with the version that is here.

        That is what is missing, and what was installed on running workers.
        """
        absent = {n.name: n.version or "" for n in self.missing}
        added = {k: v for g in self.groups for k, v in g.held.installed.items()}
        return {**absent, **added}

    def to_dict(self) -> dict[str, Any]:
        """Write everything down in JSON's types, for ``--json``."""
        return {
            "ok": self.ok,
            "troubles": [asdict(t) for t in self.troubles],
            "here": _written(self.here),
            "scheduler": _written(self.scheduler),
            "workers": [{"workers": list(g.workers), **_written(g.held)} for g in self.groups],
            "silent": list(self.silent),
            "needs": [asdict(n) for n in self.needs],
            "lacking": self.lacking,
        }

    def _python(self) -> Iterator[Trouble]:
        here = self.here.python
        for held, where in self._places():
            if _parts(held.python, 2) != _parts(here, 2):
                told = f"is {here} here and {held.python} on {where}"
                why = "pickled functions fail between minor versions"
                yield Trouble(package="python", weight="bad", told=told, why=why)

    def _missing(self) -> Iterator[Trouble]:
        for need in self.missing:
            where = [w for g in self.groups if need.module in g.held.absent for w in g.workers]
            told = f"is missing on {counted(where)}"
            yield Trouble(package=need.name, weight="bad", told=told, why="the flow imports it")
        without = [w for g in self.groups if not g.held.versions.get("prefect") for w in g.workers]
        if without and self.here.versions.get("prefect"):
            told, why = f"is missing on {counted(without)}", "flows cannot run tasks there"
            yield Trouble(package="prefect", weight="bad", told=told, why=why)

    def _versions(self) -> Iterator[Trouble]:
        own = {n.distribution: _OF_A_FLOW for n in self.needs if n.distribution}
        for package, rule in {**own, **_RULES}.items():
            here = self.here.versions.get(package)
            for held, where in self._places(scheduler=rule.scheduler):
                there = held.versions.get(package)
                if here and there and _parts(here, rule.parts) != _parts(there, rule.parts):
                    told = f"is {here} here and {there} on {where}"
                    yield _warning(package, told, rule.why)

    def _places(self, *, scheduler: bool = True) -> Iterator[tuple[Held, str]]:
        if scheduler:
            yield self.scheduler, "the scheduler"
        for group in self.groups:
            yield group.held, counted(group.workers)


def counted(workers: Iterable[str]) -> str:
    """Say how many workers.

    >>> counted(["tcp://w:1"]), counted([])
    ('1 worker', '0 workers')
    """
    return many(len(list(workers)), "worker")


def _warning(package: str, told: str, why: str) -> Trouble:
    return Trouble(package=package, weight="warning", told=told, why=why)


def _parts(version: str, n: int) -> list[str]:
    return version.split(".")[:n]


def _written(held: Held) -> dict[str, Any]:
    return {
        "python": held.python,
        "versions": dict(held.versions),
        "absent": sorted(held.absent),
        "installed": dict(held.installed),
        "failures": list(held.failures),
    }
