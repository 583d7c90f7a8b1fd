"""What is taken of files and folders, and what was declared; without a cluster."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import pytest
from prefect import flow

from daskenv_lab import sources
from daskenv_lab.errors import CodeError, UnknownNameError
from daskenv_lab.flows.loading import load_flow
from daskenv_lab.flows.sync import declare, declared, gather, withdraw

Write = Callable[[dict[str, str]], None]

SCRIPT = """
from prefect import flow, task
from beside import triple

@task
def thrice(x):
    import lazily_beside
    return triple(x) + lazily_beside.NOTHING

@flow
def etl(x: int):
    return thrice(x)
"""


def test_clutter_secrets_and_links_stay_here(folder: Path, tree: Write) -> None:
    """Of a declared folder, neither hidden files, environments nor what links lead to travel."""
    tree(
        {
            "src/good.py": "",
            "src/data.csv": "1",
            "src/.git/config": "",
            "src/.hidden.py": "",
            "src/.env": "",
            "src/node_modules/x.py": "",
            "src/__pycache__/x.pyc": "",
            "src/env2/pyvenv.cfg": "",
            "src/env2/lib/x.py": "",
            "src/look.ipynb": "",
            "src/deep/server.key": "",
            "src/deep/credentials.json": "",
            "src/deep/credentials.py": "",
            "src/deep/within.py": "",
            "outside/other.py": "",
        }
    )
    (folder / "src" / "out").symlink_to(folder / "outside")
    (folder / "src" / "out.py").symlink_to(folder / "outside" / "other.py")
    (folder / "src" / "loop").symlink_to(folder / "src")
    (folder / "src" / "also.py").symlink_to(folder / "src" / "good.py")
    declare("src")
    gathered = gather()
    assert sorted(gathered.tree.files) == [
        "also.py",
        "data.csv",
        "deep/credentials.py",
        "deep/within.py",
        "good.py",
    ]
    left_out = " ".join(gathered.tree.left_out)
    for name in (".env", "server.key", "credentials.json", "src/out ", "src/out.py"):
        assert name in left_out
    with dask.config.set({"daskenv.sync.total-limit": 0}), pytest.raises(CodeError, match="limit"):
        gather()


def test_what_is_declared_is_kept_for_the_folder(
    folder: Path, tree: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each folder has its own; secrets and what is not there are refused, and all can be undone."""
    tree({"one.py": "", "two.py": "", "sub/x.txt": "", ".env": ""})
    declare("one.py")
    declare("two.py")
    declare("one.py")
    assert declared() == (folder / "two.py", folder / "one.py")
    monkeypatch.chdir("sub")
    assert declared() == ()
    monkeypatch.chdir(folder)
    withdraw("one.py")
    assert declared() == (folder / "two.py",)
    for path, told in ((".env", "looks like a secret"), ("three.py", "nothing is named")):
        with pytest.raises(CodeError, match=told):
            declare(path)
    with pytest.raises(CodeError, match="did you mean"):
        withdraw("to.py")
    assert not issubclass(CodeError, UnknownNameError)


def test_a_script_is_read_again_with_its_neighbours(folder: Path, tree: Write) -> None:
    """A flow's file, loaded a second time, and what it imports are as they are on disk now."""
    tree({"beside.py": "def triple(x):\n    return 3 * x\n", "lazily_beside.py": "NOTHING = 0\n"})
    tree({"script.py": SCRIPT})
    sys.path.remove(str(folder))
    for factor in (3, 4, 5):
        tree({"beside.py": f"def triple(x):\n    return {factor} * x\n"})
        etl = load_flow(f"{folder}/script.py:etl")
        gathered = gather(etl)
        assert set(gathered.names) == {"beside", "lazily_beside"}
        assert etl.fn.__globals__["triple"](1) == factor
    tree({"beside.py": "def triple(x:\n"})
    with pytest.raises(CodeError, match=r"line 1 of .*beside\.py is no Python"):
        load_flow(f"{folder}/script.py:etl")


def test_tasks_and_classes_are_changed_in_place(folder: Path, tree: Write) -> None:
    """What a notebook imported by name is new after a run began, and so are its instances."""
    text = (
        "from prefect import task\n\n@task\ndef t():\n    return {0}\n"
        "class C:\n    def get(self):\n        return {0}\n"
    )
    tree({"parts.py": text.format(1)})
    parts: Any = importlib.import_module("parts")
    t, made = parts.t, parts.C()
    etl = flow(lambda: parts.t())
    etl.fn.__globals__["parts"] = parts
    try:
        gather(etl)
        for number in (2, 3):
            tree({"parts.py": text.format(number)})
            assert gather(etl).reloaded == ("parts",)
            assert (t.fn(), made.get(), parts.t is t) == (number, number, True)
        assert gather(etl).reloaded == ()
    finally:
        del etl.fn.__globals__["parts"]


def test_a_module_changed_before_the_first_look_is_noticed(folder: Path, tree: Write) -> None:
    """A function that is older than its file is seen, also where nobody noted what was loaded."""
    tree({"early.py": "def f():\n    return 1\n"})
    early: Any = importlib.import_module("early")
    tree({"early.py": "def f():\n    return 2\n"})
    declare("early.py")
    assert gather().reloaded == ("early",)
    assert early.f() == 2
    sources.note_loaded()
    tree({"early.py": "def f():\n    return 3\n"})
    assert gather().reloaded == ("early",)
    withdraw("early.py")


def test_looking_again_finds_the_same(folder: Path, tree: Write) -> None:
    """A thousand files that have not changed are the same code, and nothing is loaded again."""
    tree({f"many/m{n}.py": f"N = {n}\n" for n in range(1000)} | {"many/__init__.py": ""})
    declare("many")
    first, again = gather(), gather()
    assert len(first.tree.files) == 1001
    assert again.tree.digest == first.tree.digest
    assert again.reloaded == ()
    withdraw("many")
