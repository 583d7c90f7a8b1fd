"""Functions, flows and classes come with all they use, or are refused by what they use."""

from __future__ import annotations

import ast
import asyncio
import itertools
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from daskenv_lab.errors import ExportError
from daskenv_lab.export import Source, source_of

from . import sample_flow as sample

_numbers = itertools.count()


def _text(source: Source) -> str:
    parts = ["\n".join(source.imports), "\n".join(source.constants), source.definitions]
    return "\n\n".join(parts)


def _imported(source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the source as a module that has nothing but itself."""
    import importlib

    name = f"exported_{next(_numbers)}"
    (folder / f"{name}.py").write_text(_text(source))
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


def test_a_flow_comes_with_all_it_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks, a task inside a task, constants, a class and imports make the flow whole."""
    source = source_of(sample.etl)
    assert source.imports == (
        "from __future__ import annotations",
        "import concurrent.futures",
        "import math",
        "from dataclasses import dataclass, field",
        "from typing import Any",
        "from prefect import flow, task",
        "from prefect.futures import wait as wait_for",
    )
    assert source.constants == (
        "LIMIT = 3",
        """NAMES = ["a", 'say "hi"']""",
        'NESTED = {"a": (1.5, None), "b": [float("inf")]}',
    )
    made = _imported(source, tmp_path, monkeypatch)
    assert (made.etl.name, made.load.name, made.load.retries) == ("ETL", "load rows", 3)
    assert made.load.fn(2) == [made.Row("a", [0.0]), made.Row('say "hi"', [3.0])]
    assert {f.name for f in ast.parse(source.definitions).body} == {"Row", "double", "load", "etl"}


def test_a_decorator_of_the_namespace_stands_before_what_it_decorates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decorator and its helpers come first, and functions may call each other in a circle."""
    made = _imported(source_of(sample.count), tmp_path, monkeypatch)
    assert made.count(5) == 5
    assert made.count.label == "count/3"
    alone = _imported(source_of(sample.count_again), tmp_path, monkeypatch)
    assert alone.count_again(4) == 4


def test_an_async_function_comes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An async function, an annotation in quotes and a module with another name are found."""
    made = _imported(source_of(sample.main, sample.waiting), tmp_path, monkeypatch)
    assert asyncio.run(made.waiting(made.Row("x"))) == "a/x"


def test_what_modules_offer_is_imported_from_where_people_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects such as `datetime.UTC` are found, and functions under their public module."""
    source = source_of(sample.uses_objects_of_modules)
    assert source.imports[1:] == (
        "from datetime import UTC, datetime",
        "from enum import Enum",
        "from functools import reduce",
        "from typing import Any",
        "from numpy import sin",
        "from prefect.cache_policies import INPUTS",
    )
    made = _imported(source, tmp_path, monkeypatch)
    assert made.uses_objects_of_modules()[1:3] == (0, 2)


def test_a_shadowed_name_is_no_global() -> None:
    """A parameter, a local name or a loop's variable hides a global of that name."""
    source = source_of(sample.shadowing)
    assert source.constants == ()
    assert "from" not in "".join(source.imports[1:])
    assert source.names == {"shadowing"}


def test_a_class_is_given_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataclass comes with its decorator."""
    made = _imported(source_of(sample.Row), tmp_path, monkeypatch)
    assert made.Row("a").values == []


def test_the_source_is_complete_in_a_clean_process(tmp_path: Path) -> None:
    """A process that knows nothing of the notebook imports and runs the module."""
    (tmp_path / "exported.py").write_text(_text(source_of(sample.count, sample.Row)))
    code = "import exported; print(exported.count(3), exported.Row('a'))"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.stdout == "3 Row(key='a', values=[])\n", told.stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("uses_table", r"'uses_table' uses the global 'TABLE', a numpy\.ndarray.*parameter"),
        ("uses_connection", r"'uses_connection_itself' uses the global 'CONNECTION', a .*TextIO"),
        ("uses_password", r"'PASSWORD', which looks like a secret.*process variable"),
        ("holds_password", r"'holds_password' holds a password or a private key in line 3"),
        ("uses_nothing_there", r"'not_defined', which is not defined; define it"),
        ("uses_by_a_call", r"'by_a_call' was made of .*'plain'"),
        ("changed", r"'etl' was changed by a call such as with_options.*above 'def etl'"),
        ("uses_changed", r"'changed' was changed by a call"),
        ("by_a_call", r"'plain' was made of the function 'plain' by a call.*decorator above"),
    ],
)
def test_what_cannot_come_along_is_named(name: str, told: str) -> None:
    """What has no source and is no constant is refused, with who uses it and what to do."""
    with pytest.raises(ExportError, match=told) as raised:
        source_of(getattr(sample, name))
    assert "hunter2" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_has_no_source_is_refused() -> None:
    """Lambdas, closures, methods, builtins and values are refused, each in one sentence."""
    n = 3

    def closure() -> int:
        return n

    class Holder:
        def method(self) -> None:
            """Stand for a method."""

    cases: list[tuple[Any, str]] = [
        (lambda: 1, "a lambda"),
        (closure, r"uses 'n' of the function in which it was made"),
        (Holder.method, "lies in a class"),
        (Holder().method, "neither a function nor a class"),
        (len, "neither a function nor a class"),
        (3, "neither a function nor a class"),
    ]
    for value, told in cases:
        with pytest.raises(ExportError, match=told):
            source_of(value)


def test_two_meanings_of_one_name_are_refused() -> None:
    """Functions of two modules cannot be put together if they mean different things by a name."""
    other = types.ModuleType("other")
    exec("LIMIT = 4", other.__dict__)
    moved = types.FunctionType(sample.label_of.__code__, other.__dict__, "label_of")
    with pytest.raises(ExportError, match="'label_of' stands for two things"):
        source_of(sample.label_of, moved)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a notebook's shell, whose namespace is that of `__main__`."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    made = InteractiveShell()
    sys.modules["__main__"] = made.user_module
    yield made
    made.history_manager.end_session()


def _run(shell: Any, cell: str) -> None:
    shell.run_cell(cell, store_history=True).raise_error()


def test_cells_of_a_notebook_are_exported(
    shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions and classes of several cells come together, with the imports of all."""
    _run(shell, "from __future__ import annotations\nimport math as m\nfrom pathlib import Path")
    _run(shell, "from dataclasses import dataclass\nSTART = 2\nRows = 3")
    _run(shell, "@dataclass\nclass Point:\n    x: int\n    y: Later = 0")
    _run(shell, "class Later(int):\n    def more(self) -> Point:\n        return Point(self)")
    _run(shell, "from enum import Enum\nclass Unit(Enum):\n    M = 1")
    _run(
        shell,
        "def far(p: Point, n: int = START) -> float:\n    Unit.M\n    return m.hypot(p.x, p.y) * n",
    )
    _run(shell, "@dataclass\nclass Point:\n    x: int\n    y: int\n    z: Later = 0")
    source = source_of(shell.user_ns["far"])
    assert "from __future__ import annotations" in source.imports
    assert "import math as m" in source.imports
    assert "z: Later = 0" in source.definitions
    made = _imported(source, tmp_path, monkeypatch)
    assert made.far(made.Point(3, 4)) == 10
    assert source.constants == ("START = 2",)


def test_a_session_in_a_decorator_is_refused(shell: Any) -> None:
    """A flow tied to the notebook's cluster is told to be let go of it."""
    session = object.__new__(__import__("daskenv_lab").Session)
    shell.user_ns["session"] = session
    _run(shell, "def by(runner):\n    return lambda function: function")
    _run(shell, "@by(session)\ndef tied():\n    return 1")
    with pytest.raises(ExportError, match=r"'tied' uses 'session', a Session .*leave it out"):
        source_of(shell.user_ns["tied"])


def test_what_only_a_notebook_has_is_refused(shell: Any) -> None:
    """A magic in a function would need IPython in production."""
    _run(shell, "def timed():\n    %timeit 1")
    with pytest.raises(ExportError, match="'get_ipython'"):
        source_of(shell.user_ns["timed"])


def test_two_constants_of_one_name_are_refused() -> None:
    """A constant that differs between two modules is not silently that of one of them."""
    spaces = [{"__name__": "__main__", "LIMIT": n, "label_of": None} for n in (3, 4)]
    code = sample.label_of.__code__
    first, second = (types.FunctionType(code, space, "label_of") for space in spaces)
    with pytest.raises(ExportError, match="'label_of' stands for two things"):
        source_of(first, second)
    with pytest.raises(ExportError, match="'LIMIT' stands for two things"):
        source_of(sample.label_of, types.FunctionType(sample.double.fn.__code__, _other_limit()))


def _other_limit() -> dict[str, Any]:
    return {**vars(sample), "LIMIT": 4}
