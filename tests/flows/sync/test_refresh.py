"""What an edit does to the modules that are loaded, and to what was taken of them before."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import cloudpickle
import pytest
from distributed import Client
from prefect import Flow, flow

from daskenv_lab.errors import CodeError
from daskenv_lab.flows.loading import load_flow
from daskenv_lab.flows.sync import gather, ship

Write = Callable[[dict[str, str]], None]

TAKEN = """
import functools, threading

LOCK = threading.Lock()

def wrapped(function):
    @functools.wraps(function)
    def call():
        with LOCK:
            return function()
    return call

@wrapped
def locked():
    return {0}

@functools.cache
def cached():
    return {0}

class Box:
    lock = LOCK
    def get(self):
        return {0}
"""


def _cell(source: str) -> tuple[Flow[..., Any], dict[str, Any]]:
    """Run a notebook's cell that defines `etl`; give the flow and the notebook's namespace."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(dedent(source), space)
    return flow(space["etl"]), space


def test_what_was_taken_by_name_travels_by_reference_after_an_edit(
    folder: Path, tree: Write
) -> None:
    """Functions and classes in a notebook are the module's own after each edit, and so pickled."""
    tree({"taken.py": TAKEN.format(0)})
    etl, space = _cell("""
        from taken import Box as Kept, cached, locked

        class Mine(Kept):
            pass

        made = Mine()

        def etl():
            return locked()
        """)
    gather(etl)
    taken: Any = sys.modules["taken"]
    for number in (1, 22):
        tree({"taken.py": TAKEN.format(number)})
        assert gather(etl).reloaded == ("taken",)
        for name, now in (("locked", taken.locked), ("cached", taken.cached), ("Kept", taken.Box)):
            assert space[name] is now
            assert cloudpickle.loads(cloudpickle.dumps(space[name])) is now
        assert space["locked"]() == space["cached"]() == number
        assert isinstance(space["made"], taken.Box)
        assert space["made"].get() == cloudpickle.loads(cloudpickle.dumps(space["made"])).get()
        assert space["made"].get() == number


def test_what_comes_back_is_of_the_notebooks_class(
    client: Client, tree: Write, on_worker: Callable[..., Any]
) -> None:
    """After an edit a worker makes objects of the class that the notebook took by name."""
    tree({"boxes.py": TAKEN.format(1)})
    etl, space = _cell("from boxes import Box, locked\ndef etl():\n    return locked()\n")
    ship(client, etl)
    tree({"boxes.py": TAKEN.format(22)})
    code = ship(client, etl).code
    made = on_worker(code, "__import__('boxes').Box()")
    assert isinstance(made, space["Box"])
    assert made.get() == 22
    told = on_worker(code, f"__import__('pickle').loads({cloudpickle.dumps(space['locked'])!r})()")
    assert told == 22


def test_what_cannot_be_changed_in_place_does_not_stop_an_edit(folder: Path, tree: Write) -> None:
    """A function that gets a decorator, and a class that gets another layout, are bound anew."""
    tree(
        {
            "laid.py": "def f():\n    return 1\n\nclass C:\n    __slots__ = ('a',)\n",
        }
    )
    etl, space = _cell("""
        from laid import C, f

        made = C()

        def etl():
            return f()
        """)
    gather(etl)
    tree(
        {
            "laid.py": "def more(function):\n    return lambda: function() + 1\n\n"
            "@more\ndef f():\n    return 1\n\nclass C:\n    __slots__ = ('a', 'b')\n",
        }
    )
    assert gather(etl).reloaded == ("laid",)
    assert space["f"]() == 2
    assert space["C"] is sys.modules["laid"].C  # type: ignore[attr-defined]


def test_copies_of_a_flow_are_changed_too(folder: Path, tree: Write) -> None:
    """A flow that was copied with other options runs what its file says, after many edits too."""
    text = "from prefect import flow\n\n@flow\ndef etl():\n    return {0}\n"
    tree({"copied.py": text.format(0)})
    etl = load_flow(f"{folder}/copied.py:etl")
    copy = etl.with_options(name="other")
    for number in (1, 2):
        tree({"copied.py": text.format(number)})
        assert gather(copy).reloaded == ("copied",)
        assert (copy.fn(), etl.fn()) == (number, number)
        assert vars(sys.modules["copied"])["etl"] is etl


def test_a_task_of_another_module_is_not_overwritten(folder: Path, tree: Write) -> None:
    """A name that means another module's task after an edit leaves both tasks what they are."""
    text = "from prefect import task\n\n@task\ndef t():\n    return {0!r}\n"
    tree({"one.py": text.format("one"), "two.py": text.format("two")})
    tree({"user.py": "from one import t\n"})
    etl, space = _cell("import one, two, user\ndef etl():\n    return user.t()\n")
    gather(etl)
    tree({"user.py": "from two import t\n"})
    assert gather(etl).reloaded == ("user",)
    assert space["user"].t is space["two"].t
    assert (space["one"].t.fn(), space["two"].t.fn()) == ("one", "two")


def test_a_package_keeps_its_modules(folder: Path, tree: Write) -> None:
    """An edit of ``__init__.py`` leaves what is loaded of the package, but for what it defines."""
    tree({"pack/__init__.py": "", "pack/sub.py": "def f():\n    return 1\n", "pack/own.py": ""})
    etl, space = _cell("""
        import pack.own
        import pack.sub

        def etl():
            return pack.sub.f()
        """)
    gather(etl)
    tree({"pack/__init__.py": "own = 'defined'\n"})
    assert gather(etl).reloaded == ("pack",)
    assert (space["etl"](), space["pack"].own) == (1, "defined")


def test_what_a_flows_file_imports_is_followed(folder: Path, tree: Write) -> None:
    """A constant that stands at the top of the flow's own file is new after an edit."""
    tree({"limits.py": "LIMIT = 1\n", "limited.py": ""})
    text = "from prefect import flow\nfrom limits import LIMIT\n\n@flow\ndef etl():\n"
    tree({"limited.py": f"{text}    return LIMIT\n"})
    etl = load_flow(f"{folder}/limited.py:etl")
    assert set(gather(etl).tree.files) == {"limits.py"}
    tree({"limits.py": "LIMIT = 22\n"})
    assert gather(etl).reloaded == ("limits", "limited")
    assert etl.fn() == 22
    (folder / "limited.py").unlink()
    gathered = gather(etl)
    assert gathered.gone == (f"limited ({folder}/limited.py)",)


def test_importers_are_loaded_again_too(folder: Path, tree: Write) -> None:
    """What takes from an edited module is loaded after it, now or when its turn comes."""
    tree(
        {
            "base.py": "LIMIT = 1\n",
            "middle.py": "from base import LIMIT\n",
            "top.py": "import middle\nTWICE = 2 * middle.LIMIT\n",
            "lazy.py": "STATE = object()\ndef f():\n    import base\n    return base.LIMIT\n",
            "aside.py": "from base import LIMIT\n",
        }
    )
    etl, space = _cell("import lazy, top\ndef etl():\n    return lazy.f(), top.TWICE\n")
    other, beside = _cell("import aside\ndef etl():\n    return aside.LIMIT\n")
    state = space["lazy"].STATE
    assert gather(etl).reloaded == gather(other).reloaded == ()
    tree({"base.py": "LIMIT = 22\n"})
    assert gather(etl).reloaded == ("base", "middle", "top")
    assert space["etl"]() == (22, 44)
    assert space["lazy"].STATE is state
    assert gather(other).reloaded == ("aside",)
    assert beside["etl"]() == 22
    assert gather(etl).reloaded == gather(other).reloaded == ()


def test_modules_that_import_each_other_settle(folder: Path, tree: Write) -> None:
    """Those in a circle take from each other what is new, and are not loaded again after that."""
    tree(
        {
            "ring/__init__.py": "",
            "ring/left.py": "A = 1\nfrom . import right\nLEFT = right.__name__\n",
            "ring/right.py": "from ring.left import A\n",
        }
    )
    etl, space = _cell("from ring import left, right\ndef etl():\n    return left, right\n")
    assert gather(etl).reloaded == ()
    tree({"ring/left.py": "A = 22\nfrom . import right\nLEFT = right.__name__\n"})
    assert set(gather(etl).reloaded) == {"ring.left", "ring.right"}
    assert space["right"].A == 22
    assert gather(etl).reloaded == ()


@pytest.mark.parametrize("kept", [True, False])
def test_edits_before_the_first_look_are_noticed(
    folder: Path, tree: Write, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    """A method that changed since the import is seen; a constant where Python keeps bytecode."""
    monkeypatch.setattr(sys, "dont_write_bytecode", not kept)
    text = "class C:\n    @property\n    def got(self):\n        return {0}\n"
    tree({"method.py": text.format(1), "const.py": "RATE = 1\n", "same.py": "RATE = 1\n"})
    etl, space = _cell("import const, method, same\ndef etl():\n    return const, method, same\n")
    tree({"method.py": text.format(2), "const.py": "RATE = 2\n", "same.py": "RATE = 1\n"})
    seen = {"const", "method"} if kept else {"method"}
    assert set(gather(etl).reloaded) == seen
    assert space["method"].C().got == 2
    assert ("const" in seen) is (space["const"].RATE == 2)


@pytest.mark.slow
def test_edits_are_noticed_beside_a_loader_that_stands_in_for_pythons(tmp_path: Path) -> None:
    """Prefect's server brings one, which changes only what asks for it."""
    script = (
        "import prefect.server.api.server, pathlib, sys\n"
        "from daskenv_lab.flows.sync import declare, gather\n"
        "sys.path.insert(0, '.')\n"
        "file = pathlib.Path('early.py')\n"
        "file.write_text('def f():\\n    return 1\\n')\n"
        "import early\n"
        "file.write_text('def f():\\n    return 2\\n')\n"
        "declare('early.py')\n"
        "print(type(early.__loader__).__name__, gather().reloaded, early.f())\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert told.stdout.split(maxsplit=1)[-1] == "('early',) 2\n", told.stderr


def test_what_cannot_be_loaded_stays_stale(
    folder: Path, tree: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit that fails is told each time, and the kernel keeps what it had until it is mended."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    tree({"fragile.py": "X = 1\n"})
    fragile: Any = importlib.import_module("fragile")
    etl, _ = _cell("import fragile\ndef etl():\n    return fragile.X\n")
    tree({"fragile.py": "NEW = 1\nX = 1 / 0\n"})
    for _ in range(2):
        with pytest.raises(CodeError, match=r"fragile\.py, line 2 cannot be loaded again"):
            gather(etl)
        assert fragile.X == 1
        assert not hasattr(fragile, "NEW")
    tree({"fragile.py": "X = 2\n"})
    assert gather(etl).reloaded == ("fragile",)
    assert fragile.X == 2


def test_names_are_bound_anew_after_another_module_failed(folder: Path, tree: Write) -> None:
    """What was loaded again before an edit that fails is not left half done."""
    tree({"sound.py": "def f():\n    return 1\n", "unsound.py": "import sound\n"})
    etl, space = _cell("import unsound\nfrom sound import f\ndef etl():\n    return f()\n")
    gather(etl)
    tree({"sound.py": "def f():\n    return 2\n", "unsound.py": "import sound\nX = 1 / 0\n"})
    with pytest.raises(CodeError, match="cannot be loaded again"):
        gather(etl)
    tree({"unsound.py": "import sound\n"})
    assert gather(etl).reloaded == ("unsound",)
    assert space["f"] is vars(sys.modules["sound"])["f"]
