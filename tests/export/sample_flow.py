"""A module such as a notebook's namespace is, whose parts are exported by their source."""

from __future__ import annotations

import concurrent.futures
import math
import os.path
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import reduce, wraps
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy import sin
from prefect import flow, task
from prefect.cache_policies import INPUTS
from prefect.futures import wait as wait_for

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

LIMIT = 3
NAMES = ["a", 'say "hi"']
SHADOWED = 1
NESTED = {"a": (1.5, None), "b": [float("inf")]}
TABLE = np.zeros(3)
PASSWORD = "hunter2"
CONNECTION = open(os.devnull)  # noqa: SIM115, PTH123 - stands for one to a database


@dataclass
class Row:
    """One row."""

    key: str
    values: list[float] = field(default_factory=list)


def logged(function: Any) -> Any:
    """Decorate, and call a helper while doing so."""

    @wraps(function)
    def inner(*args: Any) -> Any:
        return function(*args)

    inner.label = label_of(function)  # type: ignore[attr-defined]
    return inner


def label_of(function: Any) -> str:
    """Help a decorator while the module is imported."""
    return f"{function.__name__}/{LIMIT}"


@task
def double(row: Row, factor: int = LIMIT) -> Row:
    """Stand for a task that only another task uses."""
    return Row(row.key, [factor * value for value in row.values])


@task(retries=LIMIT, name="load rows")
def load(n: int, missing: Missing | None = None) -> list[Row]:
    """Stand for a task that uses another one."""
    import json as j

    SHADOWED = [Row(NAMES[i % 2], [math.sqrt(i)]) for i in range(n)]  # noqa: N806
    assert j.dumps(NESTED)
    return [double.fn(row) for row in SHADOWED]


@flow(name="ETL")
def etl(n: int = 2) -> list[Any]:
    """Stand for a notebook's flow."""
    futures = [load.submit(n)]
    wait_for(futures)
    with concurrent.futures.ThreadPoolExecutor():
        return [(r.key, r.values) for r in futures[0].result()]


@logged
def count(n: int) -> int:
    """Call each other in a circle, with a decorator of the same namespace."""
    return 0 if n == 0 else 1 + count_again(n - 1)


def count_again(n: int) -> int:
    """Call back."""
    return 0 if n == 0 else 1 + count(n - 1)


counted = count


async def waiting(at: Optional["Row"] = None) -> str:  # noqa: UP037, UP045 - as notebooks have it
    """Stand for an async function."""
    return os.path.join("a", at.key if at else "b")  # noqa: PTH118


def shadowing(SHADOWED: int) -> int:  # noqa: N803
    """Use no global at all."""
    TABLE = SHADOWED  # noqa: N806
    return TABLE + sum(CONNECTION for CONNECTION in [1])


def uses_table() -> Any:
    """Use what is no constant."""
    return TABLE.sum()


def uses_connection() -> Any:
    """Use an open file deeper down."""
    return [uses_connection_itself() for _ in range(2)]


def uses_connection_itself() -> Any:
    """Use an open file."""
    return CONNECTION.read()


def uses_password() -> Any:
    """Use a secret."""
    return PASSWORD


def holds_password() -> Any:
    """Hold a secret."""
    return "ftp://ada:hunter2@files"


def uses_nothing_there() -> Any:
    """Use what is not defined."""
    return not_defined  # type: ignore[name-defined]  # noqa: F821


def plain(n: int) -> int:
    """Become a task without a decorator."""
    return n


by_a_call = task(plain)


changed = etl.with_options(retries=2)


def uses_changed() -> Any:
    """Use a flow that is not what its decorator made."""
    return changed(1)


class Color(Enum):
    """A class whose base adds functions of its own."""

    RED = 1


def uses_objects_of_modules(color: Color = Color.RED) -> Any:
    """Use what modules offer that is neither a function nor a class, or is made in another one."""
    return datetime.now(UTC), sin(0), reduce(max, [1, 2]), INPUTS, color.name


def uses_by_a_call() -> Any:
    """Use a task that has no decorator."""
    return by_a_call(1)


async def main() -> None:
    """Use a name at the start of a dotted one."""
    await waiting()
