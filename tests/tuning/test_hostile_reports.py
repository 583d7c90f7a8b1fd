"""Reports that somebody edited, or that were cut: refused in a sentence, or they predict."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskenv_lab.errors import DaskEnvLabError, ReportError
from daskenv_lab.report import FlowRunReport
from daskenv_lab.tuning import Model, Size, sizer
from tests.tuning.reports import flow_run, task_run, waited

WRITTEN = json.loads(
    json.dumps(
        flow_run(
            task_run(0, 0.5, 1.0, submitted=0.5, released=9.0),
            task_run(1, 0.5, 2.0, submitted=0.5, worker="w1", memory=2**20),
            task_run(2, 1.6, 1.0, submitted=0.6, needs=(0,), transfer=0.1, input_bytes=100),
            task_run(3, 2.7, 1.0, submitted=0.6, needs=(1, 2), cpu=1.0),
            task_run(4, 4.0, 0.1, submitted=3.9, compute=0.3),
            task_run(5, 4.1, 0.1, submitted=3.9, compute=None, batch=4),
            task_run(6, 5.0, 1.0, submitted=None, attempts=2),
            waits=(waited(0.6, 3.8, 0, 1, 2, 3), waited(4.0, 6.1, 4, 5)),
            measures={"n": 7.0},
            peak_memory={"w0": 2**27},
            cluster_size=((0.0, 2),),
            bandwidth=1e8,
            ticks=True,
        ).to_dict()
    )
)

JUNK: list[Any] = [
    *(None, True, -1, 0, 10**9, 10**30, 1e18, -1e18, math.nan, math.inf, "", "x", [], {}),
    *([99], [0, 1, 2, 3, 4, 5, 6], {"a": 1}, "2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00"),
]


def places(written: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value in a report."""
    inside = (
        written.items()
        if isinstance(written, dict)
        else enumerate(written)
        if isinstance(written, list)
        else ()
    )
    for key, value in inside:
        yield (*path, key)
        yield from places(value, (*path, key))


def put(written: Any, path: tuple[Any, ...], junk: Any) -> None:
    """Replace a value where it still is."""
    with contextlib.suppress(KeyError, IndexError, TypeError):
        for key in path[:-1]:
            written = written[key]
        written[path[-1]] = copy.deepcopy(junk)


@settings(max_examples=600, deadline=5000)
@given(
    st.lists(
        st.tuples(st.sampled_from(list(places(WRITTEN))), st.sampled_from(JUNK)),
        min_size=1,
        max_size=3,
    )
)
def test_any_value_may_be_anything(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    """The report is refused in one sentence, or what it predicts is a time."""
    written = copy.deepcopy(WRITTEN)
    for path, junk in changes:
        put(written, path, junk)
    said = ""
    try:
        report = FlowRunReport.from_dict(written)
        model = Model.of([report])
        sizer(report, by="n", deadline=5.0, most=4)
    except DaskEnvLabError as error:
        said = str(error)
    if said:
        assert "\n" not in said
        return
    for size in (Size(n_workers=3, memory=2**28), Size(n_workers=1, maximum=3, startup=2.0)):
        assert not math.isnan(model.predict(size).seconds.likely)


@pytest.mark.parametrize(
    ("path", "junk", "said"),
    [
        (("workers", 0, "nthreads"), "many", "workers.0.nthreads: Input should be a valid integer"),
        (("task_runs", 1, "duration"), math.nan, "task_runs.1.duration: .* finite number"),
        (("task_runs", 1, "needs"), [7], r"a place in \(7,\) is none of 7 task runs'"),
        (("task_runs", 1, "batch"), -1, r"a place in \(-1,\) is none of 7 task runs'"),
        (("waits", 0), [1.0], "not enough values"),
        (("start",), "2026-01-01T00:00:00", "the time 2026-01-01 00:00:00 has no zone"),
    ],
)
def test_what_is_wrong_is_named(path: tuple[Any, ...], junk: Any, said: str) -> None:
    """With its place, and what to do."""
    written = copy.deepcopy(WRITTEN)
    put(written, path, junk)
    with pytest.raises(ReportError, match=f"the report is damaged .*{said}.*; run the flow again"):
        FlowRunReport.from_dict(written)


def test_a_worker_without_threads() -> None:
    """One that only holds results says nothing about the others' threads."""
    written = copy.deepcopy(WRITTEN)
    written["workers"][0]["nthreads"] = 0
    hook = sizer(FlowRunReport.from_dict(written), by="n", deadline=5.0)
    wanted: dict[str, Any] = {}
    hook({"n": 7}, wanted)
    assert wanted["n_workers"] >= 1
