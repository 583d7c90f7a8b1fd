"""Which differences matter."""

from __future__ import annotations

import json

import pytest

from daskenv_lab.cli.tables import packages
from daskenv_lab.packages.report import COMPARED, Alike, Held, Need, PackageReport

VERSIONS = {
    **dict.fromkeys(COMPARED, "2.1.0"),
    "dask": "2026.8.0",
    "distributed": "2026.8.0",
    "prefect": "3.8.8",
}
HERE = Held(python="3.11.7", versions=VERSIONS)


def report(there: Held, scheduler: Held = HERE, **further: object) -> PackageReport:
    """Compare with two workers that hold the same."""
    group = Alike(workers=("tcp://a:1", "tcp://b:1"), held=there)
    return PackageReport(here=HERE, scheduler=scheduler, groups=(group,), **further)  # type: ignore[arg-type]


def held(python: str = "3.11.7", **versions: str | None) -> Held:
    """Hold what is here, but for a few."""
    return Held(python=python, versions={**VERSIONS, **versions})


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (held(), None),
        (held(python="3.11.2"), None),
        (held(dask="2026.8.1", prefect="3.8.1", numpy="2.4.0", toolz="0.1", lz4=None), None),
        (held(pandas=None, numpy=None), None),
        (held(python="3.12.7"), "bad python is 3.11.7 here and 3.12.7 on 2 workers"),
        (held(distributed="2026.1.0"), "warning distributed is 2026.8.0 here and 2026.1.0"),
        (held(cloudpickle="2.0.0"), "warning cloudpickle is 2.1.0 here and 2.0.0 on 2 workers"),
        (held(msgpack="1.0"), "warning msgpack is 2.1.0 here and 1.0"),
        (held(prefect="3.7.0"), "warning prefect is 3.8.8 here and 3.7.0 on 2 workers"),
        (held(prefect=None), "bad prefect is missing on 2 workers"),
        (held(numpy="1.26.4"), "warning numpy is 2.1.0 here and 1.26.4 on 2 workers"),
    ],
)
def test_what_matters_is_told(there: Held, told: str | None) -> None:
    """Each difference that may break something is told with its weight, and no other."""
    found = [f"{t.weight} {t}" for t in report(there).troubles]
    assert len(found) == (told is not None)
    assert report(there).ok == (told is None)
    if told:
        assert found[0].startswith(told)


def test_the_scheduler_counts_where_it_reads_what_is_sent() -> None:
    """The scheduler's Python and Dask matter; its Prefect does not."""
    other = held(python="3.12.1", dask="2025.1.0", prefect="3.0.0")
    told = [str(t) for t in report(HERE, other).troubles]
    assert len(told) == 2
    assert told[0].startswith("python is 3.11.7 here and 3.12.1 on the scheduler")
    assert told[1].startswith("dask is 2026.8.0 here and 2025.1.0 on the scheduler")


def test_what_a_flow_imports_counts() -> None:
    """What is missing is bad, another major version a warning; what was added is lacking still."""
    need = Need(module="tabulate", distribution="tabulate", version="0.9.0")
    here = Held(python="3.11.7", versions={**VERSIONS, "tabulate": "0.9.0"})
    without = Held(
        python="3.11.7",
        versions={**VERSIONS, "tabulate": None},
        absent=frozenset({"tabulate"}),
    )
    added = Held(
        python="3.11.7", versions=here.versions, installed={"tabulate": "0.9.0", "more": "1"}
    )
    old = Held(python="3.11.7", versions={**VERSIONS, "tabulate": "1.0"})
    groups = tuple(
        Alike(workers=(f"tcp://w:{i}",), held=h) for i, h in enumerate((without, added, old))
    )
    told = PackageReport(here=here, scheduler=HERE, groups=groups, needs=(need,), silent=("x",))
    assert [str(t) for t in told.troubles] == [
        "tabulate is missing on 1 worker: the flow imports it",
        "tabulate is 0.9.0 here and 1.0 on 1 worker: its objects may not unpickle there",
        "packages are unknown on 1 worker: no answer came",
    ]
    assert told.lacking == {"tabulate": "0.9.0", "more": "1"}
    assert json.loads(json.dumps(told.to_dict()))["lacking"] == told.lacking
    lines = packages(told).splitlines()
    assert lines[0].split("  ")[0] == "package"
    row = next(line for line in lines if line.startswith("tabulate"))
    assert "0.9.0 (added)" in row
    assert row.endswith("bad: the flow imports it")
    assert len(packages(told, only_troubles=True).splitlines()) == 2
