"""Flows whose own modules change: through `run`, and with the executor alone."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import LocalCluster

from daskenv_lab.flows import DaskExecutor
from daskenv_lab.flows.loading import load_flow

Write = Callable[[dict[str, str]], None]

SCRIPT = """
from prefect import flow, task
from {name} import Box

@task
def child(box):
    import time
    import {name}
    time.sleep(0.1)
    return {name}.Box(box.value + {name}.MORE)

@task
def parent(box):
    return child.submit(box).result()

@flow(validate_parameters=False)
def etl(box):
    first = parent.submit(box)
    return [f.result().value for f in parent.map([first, first, box])]
"""

MODULE = """
import threading

LOCK = threading.Lock()
MORE = {}

class Box:
    def __init__(self, value):
        self.value = value
"""


def test_the_executor_ships_by_itself(
    cluster: LocalCluster, api: str, folder: Path, tree: Write
) -> None:
    """A flow that is called with the executor as its task runner sends its modules too."""
    tree({"by_itself.py": MODULE.format(1), "own.py": SCRIPT.format(name="by_itself")})
    etl = load_flow(f"{folder}/own.py:etl")
    made = etl.with_options(task_runner=DaskExecutor(cluster))  # type: ignore[arg-type]
    assert made(sys.modules["by_itself"].Box(1)) == [3, 3, 2]
    tree({"by_itself.py": MODULE.format(5)})
    assert made(sys.modules["by_itself"].Box(1)) == [11, 11, 6]


ABOVE = """
from prefect import flow, task

def double(x):
    return 2 * x

@task
def first(x):
    return double(x)

@task
def second(x):
    return double(x) + 1

@flow
def above(x, run_below):
    x = first.submit(x).result()
    return second.submit(run_below(x)).result()
"""

BELOW = """
from prefect import flow, task
from above_it import double

@task
def third(x):
    return double(x)

@flow
def below(x):
    return third.submit(x).result()
"""


def test_a_subflow_that_ships_the_module_of_its_parent(
    cluster: LocalCluster, api: str, folder: Path, tree: Write
) -> None:
    """The parent goes on, whose own code has no such module."""
    tree({"above_it.py": ABOVE, "below_it.py": BELOW})
    above, below = importlib.import_module("above_it"), importlib.import_module("below_it")
    runner: Any = DaskExecutor(cluster)
    parent = above.above.with_options(task_runner=runner, validate_parameters=False)
    child = below.below.with_options(task_runner=DaskExecutor(cluster))
    assert parent(1, child) == 9
    # Once it is over, the module is imported where it was shipped.
    assert "above_it" in cloudpickle.list_registry_pickle_by_value()
    assert child(1) == 2
    assert "above_it" not in cloudpickle.list_registry_pickle_by_value()
