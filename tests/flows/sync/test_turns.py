"""Calls with different code in one worker process, which take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from prefect import Flow, flow

from daskenv_lab.flows.sync import Code, ship

Write = Callable[[dict[str, str]], None]
OnWorker = Callable[..., Any]

PATIENCE = 0.5
"""Seconds after which a call in these tests overtakes those that were cancelled."""


@pytest.fixture(scope="module")
def plain(state_dir: Path) -> Iterator[LocalCluster]:
    """Give a cluster of one worker process that runs two calls at once."""
    with LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        yield cluster


def _importing(*modules: str) -> Flow[..., Any]:
    """Make a flow as a notebook's cell would, which imports modules."""
    space: dict[str, Any] = {"flow": flow, "__name__": "__main__"}
    lines = [f"    import {module}" for module in modules] or ["    pass"]
    exec("\n".join(["@flow", "def etl():", *lines]), space)
    made: Flow[..., Any] = space["etl"]
    return made


def _hasten(client: Client) -> None:
    def hasten(seconds: float) -> None:
        import sys

        sys.modules["_daskenv_code"].store.overtake = seconds  # type: ignore[attr-defined]

    hasten.__module__ = "__main__"
    client.run(hasten, PATIENCE)


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _first(code: Code, begun: str, go: str) -> tuple[str, float]:
    """Run in one code until a file is there, and import something only then."""
    import pathlib
    import time

    with code.entered():
        pathlib.Path(begun).touch()
        while not pathlib.Path(go).exists():
            time.sleep(0.02)
        import lately

        return lately.NAME, time.time()


def _second(code: Code) -> tuple[str, float]:
    """Run in another code."""
    import time

    with code.entered():
        began = time.time()
        import other

        return other.NAME, began


_first.__module__ = _second.__module__ = "__main__"  # they travel by value


def test_a_long_call_keeps_its_code_to_its_end(client: Client, tree: Write, tmp_path: Path) -> None:
    """Other code of the same kernel waits for it, however long, and only then has its turn."""
    tree({"lately.py": "NAME = 'lately'", "other.py": "NAME = 'other'"})
    one, two = ship(client, _importing("lately")).code, ship(client, _importing("other")).code
    _hasten(client)
    begun, go = tmp_path / "begun", tmp_path / "go"
    long = client.submit(_first, one, str(begun), str(go), pure=False)
    _wait_for(begun)
    waits = client.submit(_second, two, pure=False)
    time.sleep(4 * PATIENCE)
    assert not waits.done()
    go.touch()
    name, ended = long.result(timeout=120)
    assert name == "lately"
    name, began = waits.result(timeout=120)
    assert name == "other"
    assert began >= ended


def test_a_cancelled_call_that_does_not_end_is_overtaken(
    client: Client, tree: Write, tmp_path: Path
) -> None:
    """What Dask has cancelled, and cannot be interrupted, holds up no other code for long."""
    tree({"lately.py": "NAME = 'lately'", "other.py": "NAME = 'other'"})
    one, two = ship(client, _importing("lately")).code, ship(client, _importing("other")).code
    _hasten(client)
    begun, go = tmp_path / "begun", tmp_path / "go"
    stuck = client.submit(_first, one, str(begun), str(go), pure=False)
    _wait_for(begun)
    stuck.cancel()
    try:
        assert client.submit(_second, two, pure=False).result(timeout=120)[0] == "other"
        assert client.submit(_second, two, pure=False).result(timeout=120)[0] == "other"
    finally:
        go.touch()


def test_a_run_without_modules_sees_none_of_others(
    client: Client, tree: Write, on_worker: OnWorker, tmp_path: Path
) -> None:
    """Its calls find what the worker has itself, and afterwards all is as it was."""
    tree({"plotting_here.py": "NAME = 'mine'", "lately.py": "NAME = 'lately'"})
    code = ship(client, _importing("plotting_here")).code
    none = ship(client, _importing()).code
    assert (none.id, none.names) == ("", ())
    assert on_worker(code, "__import__('plotting_here').NAME") == "mine"
    look = "__import__('importlib.util').util.find_spec('plotting_here')"
    for empty in (none, Code()):
        assert on_worker(empty, look) is None
    # Outside of flow runs, the code shipped last is there again.
    assert set(client.run(lambda: __import__("plotting_here").NAME).values()) == {"mine"}


def test_a_run_without_modules_waits_for_nobody(
    client: Client, tree: Write, tmp_path: Path
) -> None:
    """Another notebook's long call with modules of its own holds it up for no moment."""
    tree({"lately.py": "NAME = 'lately'"})
    late = ship(client, _importing("lately")).code
    begun, go = tmp_path / "begun", tmp_path / "go"
    long = client.submit(_first, late, str(begun), str(go), pure=False)
    _wait_for(begun)

    def call() -> int:
        with Code().entered():
            return 1

    call.__module__ = "__main__"
    assert client.submit(call, pure=False).result(timeout=120) == 1
    assert not long.done()
    go.touch()
    assert long.result(timeout=120)[0] == "lately"
