"""The package as a whole: what it offers, what its examples say, and what it imports."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import daskenv_lab

PUBLIC = [
    "ClusterInfo",
    "ClusterRef",
    "DaskCloudProviderEnvironment",
    "DaskEnvLabError",
    "DaskExecutor",
    "DaskGatewayEnvironment",
    "Environment",
    "FlowRunReport",
    "RemoteDaskEnvironment",
    "Secret",
    "Session",
    "TaskRunReport",
    "WorkerInfo",
    "connect",
    "current",
    "detach",
    "down",
    "load",
    "load_ipython_extension",
    "ls",
    "map",
    "panel",
    "reap",
    "run",
    "tune",
    "unload_ipython_extension",
    "up",
]

MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(daskenv_lab.__path__, "daskenv_lab.")
    if "__main__" not in m.name
)


def test_the_public_names_are_these() -> None:
    """What the package offers changes on purpose only, and every name can be had."""
    assert sorted(daskenv_lab.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(daskenv_lab, name).__doc__
    assert set(PUBLIC) <= set(dir(daskenv_lab))
    with pytest.raises(AttributeError, match="no attribute 'upp'"):
        _ = daskenv_lab.upp


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_docstrings_are_right(module: str) -> None:
    """Every example that is not marked as needing a cluster gives what it says."""
    imported = importlib.import_module(module)
    names = {**vars(daskenv_lab), "daskenv_lab": daskenv_lab, **vars(imported)}
    flags = doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    assert doctest.testmod(imported, extraglobs=names, optionflags=flags).failed == 0


def test_importing_loads_nothing_heavy() -> None:
    """The package, its values and its export load no Dask, Prefect, cloud SDK or IPython."""
    code = """
import sys, daskenv_lab, daskenv_lab.environments, daskenv_lab.report, daskenv_lab.export
heavy = {"IPython", "boto3", "botocore", "dask", "distributed", "ipywidgets", "panel", "prefect"}
print(sorted(heavy & set(sys.modules)))
"""
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout.strip() == "[]"
