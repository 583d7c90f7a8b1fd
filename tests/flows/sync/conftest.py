"""A plain cluster of two worker processes, and a folder of modules next to a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from daskenv_lab.flows.sync import Code


@pytest.fixture(scope="module")
def plain(state_dir: Path) -> Iterator[LocalCluster]:
    """Give a cluster of two worker processes with one thread each, without TLS."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(plain: LocalCluster) -> Iterator[Client]:
    """Give a client of the cluster."""
    with Client(plain.scheduler_address, set_as_default=False) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None) -> Path:
    """Give a folder that is worked in and imported from."""
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    return place


@pytest.fixture
def tree(folder: Path) -> Callable[[dict[str, str]], None]:
    """Give a function that writes files."""

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    return write


@pytest.fixture
def on_worker(client: Client) -> Callable[..., Any]:
    """Give a function that evaluates an expression on a worker, with a flow run's code."""

    def evaluate(code: Code, expression: str, **kwargs: Any) -> Any:
        def call() -> Any:
            with code.entered():
                return eval(expression, {"__builtins__": __builtins__})

        call.__module__ = "__main__"
        return client.submit(call, pure=False, **kwargs).result(timeout=120)

    return evaluate
