"""Hooks that size a cluster by a flow's parameter."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from daskenv_lab import DaskGatewayEnvironment
from daskenv_lab.errors import ReportError
from daskenv_lab.export import Request, write_environment
from daskenv_lab.production.hooks import with_hook
from daskenv_lab.tuning import sizer
from tests.tuning.reports import START, flow_run, task_run, waited


def run(n: int) -> Any:
    """Describe a run on one worker of a second for each of `n` numbers, half a second beside."""
    runs = [task_run(i, 0.5 + i, 1.0, submitted=0.5) for i in range(n)]
    return flow_run(
        *runs,
        waits=(waited(0.5, n + 0.5, *range(n)),),
        duration=n + 0.5,
        measures={"len(x)": float(n), "days": n / 2},
    )


def asked(hook: Any, n: int) -> Any:
    """Ask a hook for the number of workers."""
    wanted: dict[str, Any] = {"n_workers": 1}
    hook({"x": range(n), "days": n / 2}, wanted)
    return wanted["n_workers"]


@pytest.mark.parametrize("by", ["len(x)", "days"])
def test_as_few_as_keep_the_deadline(by: str) -> None:
    """More for more data; beyond what was seen along a line, and never more than allowed."""
    hook = sizer([run(10), run(20)], by=by, deadline=11.0, most=16)
    assert asked(hook, 0) == 1
    assert asked(hook, 10) == 1
    assert asked(hook, 20) == 2
    found = [asked(hook, n) for n in range(0, 400, 10)]
    assert found == sorted(found)
    assert found[-1] == 16


def test_from_one_value_in_proportion() -> None:
    """Beyond it more data take more time; below it no less is promised."""
    hook = sizer(run(10), by="len(x)", deadline=11.0, most=16)
    assert [asked(hook, n) for n in (1, 10, 20)] == [1, 1, 2]
    found = [asked(hook, n) for n in range(0, 400, 10)]
    assert found == sorted(found)
    assert found[-1] == 16
    short = sizer(run(10), by="len(x)", deadline=6.0)
    assert [asked(short, n) for n in (1, 10)] == [2, 2]


def test_one_is_enough_for_all() -> None:
    """A flow whose time does not depend on the parameter."""
    same = [flow_run(measures={"n": float(n)}) for n in (1, 2)]
    hook = sizer(same, by="n", deadline=20.0)
    wanted: dict[str, Any] = {}
    hook({"n": 10**9}, wanted)
    assert wanted == {"n_workers": 1}


@pytest.fixture
def environment() -> DaskGatewayEnvironment:
    """Give an environment with such a hook."""
    hook = sizer([run(10), run(20)], by="len(x)", deadline="11 s")
    return DaskGatewayEnvironment("local", n_workers=2, on_execute=hook)


def test_it_sizes_a_flow_runs_cluster(environment: DaskGatewayEnvironment) -> None:
    """As any `on_execute`."""
    assert with_hook(environment, {"x": range(20)}).n_workers == 2
    assert with_hook(environment, {"x": range(10)}).n_workers == 1


def test_it_is_exported(environment: DaskGatewayEnvironment, tmp_path: Path) -> None:
    """By its source, which needs nothing of this package's."""
    path = tmp_path / "environment.py"
    request = Request(source="a test", when=START)
    write_environment(environment, path, request, overwrite=False, lacks={})
    text = path.read_text()
    assert "def size_by_x(parameters, provider_kwargs):" in text
    held = runpy.run_path(str(path))
    assert with_hook(held["environment"], {"x": range(20)}).n_workers == 2


def test_what_cannot_be_fitted() -> None:
    """No run, an unknown parameter, or an expression: one sentence each."""
    with pytest.raises(ReportError, match="no report was given"):
        sizer([], by="days", deadline=9.0)
    with pytest.raises(ReportError, match=r"has no number 'day'; did you mean 'days'"):
        sizer([run(10), run(20)], by="day", deadline=9.0)
    with pytest.raises(ReportError, match="'soon' is no time; write it as 90, 30m or 2 hours"):
        sizer([run(10), run(20)], by="days", deadline="soon")
    with pytest.raises(ReportError, match="is no parameter"):
        sizer([run(10), run(20)], by="__import__('os')", deadline=9.0)
