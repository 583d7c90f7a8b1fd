"""Finding flows by name, file and module."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect import flow

from daskenv_lab.errors import FlowNotFound
from daskenv_lab.flows.loading import flow_names, load_flow

pytestmark = pytest.mark.usefixtures("forgotten")

FILE = """
from prefect import flow, task
import neighbour_of_the_flow

@task
def triple(x):
    return neighbour_of_the_flow.times_three(x)

@flow
def etl(x: int):
    return triple.submit(x).result()
"""


@flow(name="its own name")
def here() -> int:
    """Give one."""
    return 1


def test_by_variable_and_own_name() -> None:
    """The variable is preferred, and the flow's own name is found as well."""
    other = here.with_options(name="here")
    space = {"here": here, "z": other, "n": 3}
    assert load_flow("here", space) is here
    assert load_flow("its own name", space) is here
    assert load_flow(here) is here
    assert flow_names(space) == ("here", "its own name", "z")


def test_unknown_names_suggest_the_nearest() -> None:
    """A mistyped name names the nearest flow."""
    with pytest.raises(FlowNotFound, match="did you mean 'here'"):
        load_flow("hre", {"here": here})
    with pytest.raises(FlowNotFound, match=r"path\.py:flow"):
        load_flow("x")


def test_file_runs_on_workers_that_lack_it(tmp_path: Path, go: object) -> None:
    """A file's flow runs although neither it nor what lies beside it is on the workers."""
    (tmp_path / "etl_of_test.py").write_text(FILE)
    (tmp_path / "neighbour_of_the_flow.py").write_text("def times_three(x):\n    return 3 * x\n")
    path = tmp_path / "etl_of_test.py"
    for spec in (f"{path}:etl", str(path)):
        loaded = load_flow(spec)
        assert go(loaded, x=2).result == 6  # type: ignore[operator]


def test_bad_files(tmp_path: Path) -> None:
    """A file that is missing, empty, ambiguous or broken is said so in one sentence."""
    (tmp_path / "none.py").write_text("x = 1")
    (tmp_path / "broken.py").write_text("1 / 0")
    two = "from prefect import flow\n@flow\ndef a(): ...\n@flow\ndef b(): ...\n"
    (tmp_path / "two.py").write_text(two)
    for spec, told in [
        ("none.py", "has no flow"),
        ("broken.py", "ZeroDivisionError"),
        ("two.py", "has 2 flows"),
        ("two.py:c", "has no flow 'c'"),
        ("tow.py", "two.py"),
        ("no_such_module:f", "no module is named"),
    ]:
        with pytest.raises(FlowNotFound, match=told):
            load_flow(spec if "module" in spec else str(tmp_path / spec))
