"""Workers whose environment is another one, and packages that only this process has."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import LocalCluster

import daskenv_lab
from daskenv_lab import inventory
from daskenv_lab.config import process_variables

StartWorker = Callable[..., "subprocess.Popen[bytes]"]

TINY = {"daskenv_tiny/__init__.py": "import daskenv_tinier\nANSWER = 42 + daskenv_tinier.MORE\n"}
TINIER = {"daskenv_tinier.py": "MORE = 1\n"}


def make_wheel(
    folder: Path,
    name: str,
    files: dict[str, str],
    *,
    version: str = "1.0",
    requires: tuple[str, ...] = (),
    tag: str = "py3-none-any",
) -> Path:
    """Build a wheel by hand."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    inside = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},,\n" for path in (*inside, f"{info}/RECORD"))
    folder.mkdir(exist_ok=True)
    made = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in {**inside, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return made


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of wheels, for pip to find there alone."""
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, "daskenv_tiny", TINY, requires=("daskenv-tinier>=1", "packaging"))
    make_wheel(folder, "daskenv_tinier", TINIER)
    return folder


@pytest.fixture(scope="module")
def scheduler(state_dir: Path) -> Iterator[LocalCluster]:
    """Give a scheduler without workers."""
    with LocalCluster(
        n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1", protocol="tcp"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def start_worker(
    scheduler: LocalCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartWorker]:
    """Give a function that starts a worker as another machine would, and waits until it is there.

    What is in `folder` comes first on its import path; `code` may run it in another way, and
    `arguments` are added to its command.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(
        folder: Path | None = None,
        code: list[str] | None = None,
        arguments: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            *(["-c", *code] if code else ["-m", "distributed.cli.dask_worker"]),
            scheduler.scheduler_address,
            *("--no-nanny", "--no-dashboard", "--nthreads", "1", "--host", "127.0.0.1"),
            *("--local-directory", str(tmp_path_factory.mktemp("worker"))),
            *arguments,
        ]
        there = len(scheduler.scheduler.workers)
        process = subprocess.Popen(
            command,
            env=process_variables(PYTHONPATH=str(folder or "")),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        with scheduler.get_client() as client:
            client.wait_for_workers(there + 1, timeout=120)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(120)


@pytest.fixture(scope="module")
def worker(start_worker: StartWorker) -> subprocess.Popen[bytes]:
    """Give the worker that is always there."""
    return start_worker()


@pytest.fixture
def session(
    scheduler: LocalCluster, worker: subprocess.Popen[bytes]
) -> Iterator[daskenv_lab.Session]:
    """Give a session on that cluster, which knows of nothing yet."""
    session = daskenv_lab.up("remote", name="elsewhere", address=scheduler.scheduler_address)
    yield session
    session.connection.set_label(lacks={})
    for name in session.client.run_on_scheduler(_plugins):
        session.connection.unregister(name)
    session.client.run(_forget_installed)
    inventory.down("elsewhere")


@pytest.fixture
def only_here(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Path], None]]:
    """Give a function that installs a wheel in this process alone; two are there already."""
    folder = tmp_path / "only-here"
    monkeypatch.syspath_prepend(str(folder))

    def install(wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)

    for wheel in wheels.iterdir():
        install(wheel)
    options = ["--no-index", "--find-links", str(wheels)]
    with dask.config.set({"daskenv.packages.pip-options": options}):
        yield install
    for name in [n for n in sys.modules if n.startswith("daskenv_tin")]:
        del sys.modules[name]


def _plugins(dask_scheduler: Any) -> list[str]:
    return [n for n in dask_scheduler.worker_plugins if n.startswith("daskenv-packages")]


def _forget_installed(dask_worker: Any) -> None:
    """Take away what was installed, so that the next test finds the worker as it was."""
    import shutil
    import sys

    for name in vars(dask_worker).pop("daskenv_packages", {}):
        for folder in [f for f in sys.path if f.endswith(name)]:
            sys.path.remove(folder)
            shutil.rmtree(folder)
    for name in [n for n in sys.modules if n.startswith("daskenv_tin")]:
        del sys.modules[name]


_plugins.__module__ = _forget_installed.__module__ = "__main__"
