"""Packages of a real cluster whose workers have another environment than this process."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import pytest
from click.testing import CliRunner
from distributed.versions import VersionMismatchWarning

import daskenv_lab
from daskenv_lab.cli import main
from daskenv_lab.cli.surface import Surface
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.errors import ExportError, NotSupported, PackageError, WaitTimeout
from daskenv_lab.packages.compare import compare, lacking, news, refuse_other_python
from daskenv_lab.packages.install import Plan, install, plan
from daskenv_lab.providers.connection import Connection

from .conftest import StartWorker, make_wheel

OnlyHere = Callable[[Path], None]


def uses(module: str) -> Any:
    """Define a function of a notebook that uses a module."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(f"import {module} as used\ndef use(): return used.__name__", space)
    return space["use"]


def answer() -> int:
    """Import the missing package where it runs."""
    import daskenv_tiny

    return int(daskenv_tiny.ANSWER)


answer.__module__ = "__main__"  # it travels by value


def addresses(session: daskenv_lab.Session) -> list[str]:
    """List the workers."""
    return [w.address for w in session.info().workers]


def test_one_environment_is_quiet(session: daskenv_lab.Session) -> None:
    """Where nothing differs nothing is told, and nothing is asked a second time."""
    report = session.packages(uses("yaml"))
    assert report.ok
    assert [n.name for n in report.needs] == ["pyyaml"]
    assert len(report.workers) == 1
    assert report.here.versions == report.groups[0].held.versions
    assert news(session.connection, addresses(session), [uses("yaml")]) is None
    assert lacking(session.connection) == {}
    with pytest.raises(PackageError, match="nothing is known to be missing"):
        session.install_packages(uses("yaml"))


def test_what_is_missing_is_told_once_and_not_exported(
    session: daskenv_lab.Session, only_here: OnlyHere, tmp_path: Path
) -> None:
    """A package that only this process has is named, and stops the export from any kernel."""
    flow = uses("daskenv_tiny")
    report = news(session.connection, addresses(session), [flow])
    assert report is not None
    told = [str(t) for t in report.troubles]
    assert told == ["daskenv-tiny is missing on 1 worker: the flow imports it"]
    assert news(session.connection, addresses(session), [flow]) is None
    again = daskenv_lab.connect("elsewhere")
    assert lacking(again.connection) == {"daskenv-tiny": "1.0"}
    with pytest.raises(ExportError, match=r"lacks daskenv-tiny 1\.0, .*--allow-missing"):
        again.export(tmp_path / "environment.py")
    assert not (tmp_path / "environment.py").exists()
    assert again.export(tmp_path / "environment.py", allow_missing=True).exists()


def test_a_dockerfile_adds_what_is_missing(
    session: daskenv_lab.Session, only_here: OnlyHere, tmp_path: Path
) -> None:
    """The image for a session holds what its flows import and what each worker needs."""
    session.packages(uses("daskenv_tiny"), uses("yaml"))
    text = session.export(tmp_path / "Dockerfile").read_text()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"\nFROM ghcr.io/dask/dask:{dask.__version__}-py{python}\n" in text
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    always = ("cloudpickle", "dask", "distributed", "prefect")
    assert {n: pins[n] for n in always} == {n: importlib.metadata.version(n) for n in always}
    assert pins["daskenv-tiny"] == "1.0"
    assert pins["pyyaml"] == importlib.metadata.version("pyyaml")


@pytest.mark.slow
def test_missing_pure_packages_are_installed_for_the_session(
    session: daskenv_lab.Session,
    only_here: OnlyHere,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    """With what they need, on workers that come too, beside the environment and not in it."""
    flow = uses("daskenv_tiny")
    before = {d.metadata["Name"] for d in importlib.metadata.distributions(path=sys.path[1:])}
    said = session.install_packages(flow)
    assert said == (
        "Installed daskenv-tiny 1.0, daskenv-tinier 1.0 on 1 worker, and on those that come; "
        "they go with the workers"
    )
    assert session.client.submit(answer, pure=False).result(timeout=120) == 43
    late = start_worker()
    report = session.packages(flow)
    assert report.ok
    assert len(report.workers) == 2
    assert len(report.groups) == 1
    assert report.groups[0].held.installed == {"daskenv-tiny": "1.0", "daskenv-tinier": "1.0"}
    last = addresses(session)[-1]
    future = session.client.submit(answer, workers=[last], pure=False)
    assert future.result(timeout=120) == 43
    late.terminate()
    late.wait(120)
    after = {d.metadata["Name"] for d in importlib.metadata.distributions(path=sys.path[1:])}
    assert after == before
    with pytest.raises(ExportError, match=r"daskenv-tinier 1\.0, daskenv-tiny 1\.0"):
        session.export(tmp_path / "environment.py")


def test_what_cannot_be_installed_is_refused_with_the_reason(
    session: daskenv_lab.Session, only_here: OnlyHere, tmp_path: Path
) -> None:
    """Compiled packages, needs in other versions, and what is no package are not installed."""
    extra = tmp_path / "extra"
    files = {"daskenv_{}.py": ""}
    for name, further in {
        "compiled": {"tag": "cp311-cp311-linux_x86_64"},
        "picky": {"requires": ("packaging<1",)},
        "deep": {"requires": ("daskenv-compiled",)},
    }.items():
        inside = {path.format(name): text for path, text in files.items()}
        only_here(make_wheel(extra, f"daskenv_{name}", inside, **further))  # type: ignore[arg-type]
    flows = [uses(f"daskenv_{name}") for name in ("compiled", "picky", "deep")]
    planned = plan(session.connection, session.packages(*flows))
    assert planned.pins == {}
    assert planned.refused["daskenv-compiled"] == "it is not pure Python"
    assert planned.refused["daskenv-deep"] == "it needs daskenv-compiled: it is not pure Python"
    assert planned.refused["daskenv-picky"].startswith(
        "it needs packaging<1, and workers have packaging 2"
    )
    with pytest.raises(PackageError, match=r"nothing can be installed: .* to the image"):
        session.install_packages(*flows)


def test_a_failure_of_pip_is_a_sentence(
    session: daskenv_lab.Session, only_here: OnlyHere, tmp_path: Path
) -> None:
    """Pip's last word is told, and the workers that come later are left alone."""
    alone = {"daskenv.packages.pip-options": ["--no-index"]}
    with dask.config.set(alone), pytest.raises(PackageError) as caught:
        install(session.connection, Plan(pins={"daskenv-tiny": "1.0"}))
    said = str(caught.value)
    assert "daskenv-tiny 1.0 could not be installed on 1 of 1 worker (tcp://127.0.0.1:" in said
    assert "pip said: No matching distribution found for daskenv-tiny==1.0" in said
    plugins = session.client.run_on_scheduler(
        lambda dask_scheduler: [*dask_scheduler.worker_plugins]
    )
    assert not [name for name in plugins if name.startswith("daskenv-packages")]


@pytest.mark.slow
def test_workers_that_differ_are_told_apart(
    session: daskenv_lab.Session, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Workers with other versions have a column of their own; one that hangs is not waited for."""
    for name, version in {"pandas": "1.5.3", "prefect": "3.1.0"}.items():
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    other = start_worker(tmp_path)
    report = compare(session.connection)
    assert sorted(len(g.workers) for g in report.groups) == [1, 1]
    told = sorted(str(t) for t in report.troubles)
    assert [t.partition(" and ")[2].partition(":")[0] for t in told] == [
        "1.5.3 on 1 worker",
        "3.1.0 on 1 worker",
    ]
    other.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(WaitTimeout, match="does not answer within"):
            compare(session.connection, timeout=1)
        fresh = daskenv_lab.connect("elsewhere").connection
        with dask.config.set({"daskenv.packages.patience": 0.5}):
            assert news(fresh, addresses(session), [uses("yaml")]) is None
    finally:
        other.kill()
        other.wait(120)


def test_the_verb_shows_a_table_and_installs(
    session: daskenv_lab.Session, only_here: OnlyHere, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a notebook the flows there count; --install puts there what is missing."""
    from prefect import flow

    notebook = Surface({"etl": flow(uses("daskenv_tiny")), "x": 1})
    main.perform(["packages"], notebook)
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("daskenv-tiny"))
    assert row.split()[1:] == ["1.0", "-", "bad:", "the", "flow", "imports", "it"]
    assert "--install` installs daskenv-tiny 1.0, daskenv-tinier 1.0" in shown
    main.perform(["packages", "--install"], notebook)
    shown = capsys.readouterr().out
    assert "1.0 (added)" in shown
    assert "Installed daskenv-tiny 1.0" in shown
    assert "Nothing differs that matters" in shown


def test_at_a_command_line_bad_is_an_exit_code(
    session: daskenv_lab.Session, only_here: OnlyHere, tmp_path: Path
) -> None:
    """A flow in a file counts, and what it lacks gives JSON and the exit code 1."""
    (tmp_path / "etl.py").write_text(
        "from prefect import flow\n@flow\ndef etl():\n    import daskenv_tiny\n"
    )
    arguments = ["packages", f"{tmp_path / 'etl.py'}:etl", "--json"]
    ended = CliRunner().invoke(main, arguments, prog_name="daskenv")
    assert ended.exit_code == 1, ended.output
    assert json.loads(ended.stdout)["lacking"] == {"daskenv-tiny": "1.0"}


OTHER_PYTHON = """
import sys, distributed.versions as told
true = told.get_package_info
told.get_package_info = lambda names: {**true(names), "python": "3.99.1.final.0"}
from distributed.cli.dask_scheduler import main as scheduler
from distributed.cli.dask_worker import main as worker
role = sys.argv.pop(1)
(scheduler if role == "scheduler" else worker)()
"""


@pytest.mark.slow
def test_nothing_is_sent_to_a_scheduler_of_another_python(tmp_path: Path) -> None:
    """Byte code of another minor version ends a process, so the connection is refused."""
    place = tmp_path / "place.json"
    command = [sys.executable, "-c", OTHER_PYTHON, "scheduler", "--scheduler-file", str(place)]
    where = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    process = subprocess.Popen([*command, *where], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not place.exists() or not place.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        address = json.loads(place.read_text())["address"]
        with (
            pytest.warns(VersionMismatchWarning),
            pytest.raises(NotSupported, match=r"runs Python 3\.99\.1, and this is 3\.1"),
        ):
            Connection(ClusterRef(provider="remote", id=address), address, timeout=120)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(120)


def test_no_function_is_sent_to_workers_of_another_python(
    session: daskenv_lab.Session, start_worker: StartWorker
) -> None:
    """They are compared by what Dask tells in plain words, and a run is refused."""
    other = start_worker(code=[OTHER_PYTHON, "worker"])
    report = session.packages(uses("yaml"))
    assert [t.weight for t in report.troubles] == ["bad"]
    assert str(report.troubles[0]).startswith("python is 3.1")
    assert len(report.alike) == 1
    refuse_other_python(session.connection, report.alike)
    with pytest.raises(NotSupported, match=r"1 worker .*: 3\.99\.1"):
        refuse_other_python(session.connection, report.workers)
    other.kill()
    other.wait(120)


def test_a_worker_whose_python_was_mended_is_taken_again(
    session: daskenv_lab.Session, start_worker: StartWorker
) -> None:
    """One that comes back at the same address with this Python is not refused any more."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    same = ["--worker-port", port]
    for code in ([OTHER_PYTHON, "worker"], None):
        other = start_worker(code=code, arguments=same)
        refused = pytest.raises(NotSupported, match=r"3\.99\.1")
        with refused if code else contextlib.nullcontext():
            news(session.connection, addresses(session), [uses("yaml")])
            refuse_other_python(session.connection, addresses(session))
        other.kill()
        other.wait(120)
        session.client.run_on_scheduler(_gone, address=f"tcp://127.0.0.1:{port}")


async def _gone(dask_scheduler: Any, address: str) -> None:
    """Wait until a worker has left."""
    import asyncio

    while address in dask_scheduler.workers:
        await asyncio.sleep(0.05)


_gone.__module__ = "__main__"  # it travels by value
