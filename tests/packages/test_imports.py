"""What a flow needs is found without importing or running anything."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from daskenv_lab.packages.compare import needs_of
from daskenv_lab.packages.here import (
    brought_by,
    needed_by_dask_and_prefect,
    required_by,
    why_not_pure,
)
from daskenv_lab.packages.imports import imported_by, installed_imports

FLOW = """
from __future__ import annotations
import json, yaml
from typing import TYPE_CHECKING
from prefect import flow, task
from . import steps
from .steps import deeper
from daskenv_shared import helper
if TYPE_CHECKING:
    import tornado
try:
    import daskenv_no_such_module
    import psutil
except ImportError:
    pass
@flow
def etl():
    import daskenv_no_such_module
    return steps.deeper()
"""
STEPS = "def deeper():\n    import filelock\n    from platformdirs import user_cache_path\n"
SHARED = "import click\ndef helper():\n    import daskenv_project.flows\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder with a package and a module that import each other."""
    folder = tmp_path / "daskenv_project"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "flows.py").write_text(FLOW)
    (folder / "steps.py").write_text(STEPS)
    (tmp_path / "daskenv_shared.py").write_text(SHARED)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [n for n in sys.modules if n.startswith(("daskenv_project", "daskenv_shared"))]:
        del sys.modules[name]


def of_a_notebook(code: str, name: str) -> Any:
    """Define something as a notebook does, without a file."""
    space: dict[str, Any] = {"__name__": "__main__", "flow": flow, "task": task}
    exec(code, space)
    return space[name]


def test_a_file_counts_as_a_whole_with_its_local_modules(project: Path) -> None:
    """Relative and nested imports are followed; what may be absent does not count."""
    flows = importlib.import_module("daskenv_project.flows")
    found = {"click", "yaml", "prefect", "filelock", "platformdirs"}
    assert installed_imports([flows.etl]) == found
    assert installed_imports([flows.steps.deeper]) == {"filelock", "platformdirs"}
    code = "from daskenv_shared import helper\ndef use(): return helper()"
    assert installed_imports([of_a_notebook(code, "use")]) == found


def test_of_a_notebook_only_what_is_used_counts() -> None:
    """Tasks, closures and instances lead on; what the notebook imports besides does not count."""
    code = """
import click, yaml, psutil
from numpy import array
from packaging.version import Version
table = array([1])
@task
def work(x): return [yaml.safe_load(x) for _ in range(2)]
def outer():
    v = Version("1")
    def inner(): return v
    return inner
used = outer()
@flow
def whole():
    used()
    return work("1"), table
"""
    found = installed_imports([of_a_notebook(code, "whole")])
    assert found == {"yaml", "numpy", "packaging"}


def test_classes_and_decorated_functions_of_a_notebook_are_read() -> None:
    """Methods, properties and bases count, and what stands behind a decorator or a partial."""
    code = """
import functools
import click, filelock, numpy, psutil, tornado, yaml
from packaging.version import Version
class Base(Version): pass
class Cleaner(Base):
    def clean(self, x): return yaml.safe_load(x), Cleaner
    @property
    def size(self): return numpy.array([1]).size
class Other:
    def unused(self): return tornado
@functools.lru_cache
def cached(): return click.echo
def added(x, y): return filelock
add = functools.partial(added, 1)
made = Cleaner("1")
@flow
def by_class(): return Cleaner("1").clean(cached()), add(1)
@task
def by_instance(): return made.size
@task
def plain(): return psutil
"""
    cleaner = {"yaml", "numpy", "packaging"}
    assert installed_imports([of_a_notebook(code, "by_class")]) == {*cleaner, "click", "filelock"}
    assert installed_imports([of_a_notebook(code, "by_instance")]) == cleaner
    assert installed_imports([of_a_notebook(code, "plain")]) == {"psutil"}


def test_a_source_that_cannot_be_read_imports_nothing() -> None:
    """Broken code, and imports out of a package, are no errors here."""
    assert list(imported_by("def (:")) == []
    assert list(imported_by("from ... import a", "p")) == []
    assert list(imported_by("from a import *\nif x:\n  import b\nelse:\n  import c")) == [
        "a",
        "b",
        "c",
    ]


def test_distributions_are_found_by_their_files(only_here: Callable[[Path], None]) -> None:
    """A module leads to the distribution that holds it, whatever that is called."""
    found = brought_by(["yaml", "pandas", "daskenv_tinier", "daskenv_no_such_module"])
    assert found == {"yaml": "pyyaml", "pandas": "pandas", "daskenv_tinier": "daskenv-tinier"}
    [need] = needs_of(["daskenv_tinier"])
    assert (need.name, need.version) == ("daskenv-tinier", "1.0")
    assert set(required_by("daskenv-tiny")) == {"daskenv-tinier", "packaging"}


def test_only_wheels_for_all_platforms_are_pure(only_here: Callable[[Path], None]) -> None:
    """Compiled packages, and those from folders, are told apart."""
    assert why_not_pure("daskenv-tiny") is None
    assert why_not_pure("pandas") == "it is not pure Python"
    assert "folder" in str(why_not_pure("daskenv_lab"))
    assert why_not_pure("daskenv-no-such") == "it is not installed here"
    assert {"tornado", "pydantic", "packaging"} <= needed_by_dask_and_prefect()
    assert "daskenv-tiny" not in needed_by_dask_and_prefect()
