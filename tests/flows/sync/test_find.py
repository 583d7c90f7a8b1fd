"""Which modules of the user's own are found, wherever they lie and however they are used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import cloudpickle
import pytest
from prefect import Flow, flow

from daskenv_lab.flows.sync import declare, gather, withdraw

Write = Callable[[dict[str, str]], None]


def _cell(source: str) -> tuple[Flow[..., Any], dict[str, Any]]:
    """Run a notebook's cell that defines `etl`; give the flow and the notebook's namespace."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(dedent(source), space)
    return flow(space["etl"]), space


def test_modules_used_through_their_package_are_looked_at(folder: Path, tree: Write) -> None:
    """A cell's import of a module in a package is followed, though the flow names no module."""
    tree({"outer/__init__.py": "", "outer/inner.py": "import also\n", "also.py": "X = 1\n"})
    etl, space = _cell("import outer.inner\ndef etl():\n    return outer.inner.also.X\n")
    assert set(gather(etl).tree.files) == {"also.py", "outer/__init__.py", "outer/inner.py"}
    tree({"also.py": "X = 22\n", "outer/inner.py": "import also\nY = 1\n"})
    assert gather(etl).reloaded == ("also", "outer.inner")
    assert (space["etl"](), space["outer"].inner.Y) == (22, 1)


def test_modules_of_a_declared_folder_are_looked_at(folder: Path, tree: Write) -> None:
    """What is loaded from a declared folder is loaded again, though no flow was named."""
    tree({"lib/listed.py": "X = 1\n", "lib/space/deep.py": "X = 1\n"})
    sys.path.append(str(folder / "lib"))
    declare("lib")
    listed, deep = (importlib.import_module(name) for name in ("listed", "space.deep"))
    assert gather().reloaded == ()
    tree({"lib/listed.py": "X = 2\n", "lib/space/deep.py": "X = 2\n"})
    assert set(gather().reloaded) == {"listed", "space.deep"}
    assert vars(listed)["X"] == vars(deep)["X"] == 2
    sys.path.remove(str(folder / "lib"))
    withdraw("lib")


@pytest.mark.parametrize("written", ["./src", "src/", "../project/src", "{}/./src"])
def test_a_path_may_be_written_in_any_way(
    folder: Path, tree: Write, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """However a folder stands in ``sys.path``, what lies in it is loaded again."""
    tree({"src/anyhow.py": "def f():\n    return 1\n", "src/wrapped/__init__.py": "X = 1\n"})
    monkeypatch.syspath_prepend(written.format(folder))
    etl, space = _cell("import anyhow, wrapped\ndef etl():\n    return anyhow.f(), wrapped.X\n")
    tree({"src/anyhow.py": "def f():\n    return 22\n"})
    assert gather(etl).reloaded == ("anyhow",)
    tree({"src/anyhow.py": "def f():\n    return 3\n", "src/wrapped/__init__.py": "X = 2\n"})
    assert gather(etl).reloaded == ("anyhow", "wrapped")
    assert space["etl"]() == (3, 2)


@pytest.mark.parametrize("held", ["[B()]", "(B,)", "{'b': B()}", "{B()}", "[1, B().get]"])
def test_what_a_list_holds_is_followed(folder: Path, tree: Write, held: str) -> None:
    """The module of what is in a plain container is shipped, though nothing names it."""
    tree({"registry.py": f"class B:\n    def get(self):\n        pass\n\nITEMS = {held}\n"})
    etl, _ = _cell("from registry import ITEMS\ndef etl():\n    return ITEMS\n")
    assert set(gather(etl).tree.files) == {"registry.py"}


def test_a_renamed_package_is_gone(folder: Path, tree: Write) -> None:
    """What a notebook took of a package that was renamed travels by value, and that is said."""
    tree({"former/__init__.py": "", "former/steps.py": "import needed\ndef f():\n    return 1\n"})
    tree({"needed.py": ""})
    etl, space = _cell("from former.steps import f\ndef etl():\n    return f()\n")
    assert "former/steps.py" in gather(etl).tree.files
    (folder / "former").rename(folder / "latter")
    gathered = gather(etl)
    assert set(gathered.gone) == {
        f"former ({folder}/former)",
        f"former.steps ({folder}/former/steps.py)",
    }
    assert set(gathered.tree.files) == {"needed.py"}
    assert b"_make_function" in cloudpickle.dumps(space["f"])
    for name in ("former", "former.steps"):
        cloudpickle.unregister_pickle_by_value(sys.modules[name])


def test_a_module_may_become_a_package_and_a_package_a_module(folder: Path, tree: Write) -> None:
    """A module that was moved to where Python finds it anew is shipped and loaded from there."""
    tree({"grown.py": "def f():\n    return 1\n", "kit/__init__.py": "", "kit/part.py": "X = 1\n"})
    etl, space = _cell("""
        import grown
        import kit.part

        def etl():
            return grown.f(), kit.part.X
        """)
    gather(etl)
    (folder / "grown.py").unlink()
    (folder / "kit/part.py").unlink()
    tree({"grown/__init__.py": "from grown.more import f\n", "kit/part/__init__.py": "X = 2\n"})
    tree({"grown/more.py": "def f():\n    return 2\n"})
    gathered = gather(etl)
    assert gathered.gone == ()
    assert set(gathered.tree.files) == {
        "grown/__init__.py",
        "grown/more.py",
        "kit/__init__.py",
        "kit/part/__init__.py",
    }
    assert (space["etl"](), space["grown"].__path__) == ((2, 2), [f"{folder}/grown"])
    (folder / "grown/__init__.py").unlink()
    (folder / "grown/more.py").unlink()
    (folder / "grown").rmdir()
    tree({"grown.py": "def f():\n    return 3\n"})
    assert "grown" in gather(etl).reloaded
    assert (space["etl"](), hasattr(space["grown"], "__path__")) == ((3, 2), False)
    assert "grown.py" in gather(etl).tree.files
