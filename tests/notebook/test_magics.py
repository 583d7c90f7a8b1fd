"""``%daskenv`` in a real shell and a real kernel."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.manager import start_new_kernel

from daskenv_lab.errors import CommandError, DaskEnvLabError, UnknownNameError

LOAD = "shell.extension_manager.load_extension('daskenv_lab')"
COMPLETE = """\
shell.Completer.use_jedi = False
shell.complete('', '%daskenv up loc')
shell.complete('', '%daskenv down d')
"""


@pytest.fixture
def shell(state_dir: Path) -> Iterator[InteractiveShell]:
    """Give a shell with the extension loaded."""
    made = InteractiveShell()
    made.extension_manager.load_extension("daskenv_lab")
    yield made
    made.extension_manager.unload_extension("daskenv_lab")
    made.history_manager.end_session()


def _offered(shell: InteractiveShell, line: str) -> list[str]:
    with provisionalcompleter():
        return [c.text for c in shell.Completer.completions(line, len(line))]


def test_the_magic_alone_shows_its_help(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """`%daskenv` tells the verbs, with the notebook's spelling."""
    assert shell.run_line_magic("daskenv", "") is None
    assert "%daskenv up local --name dev" in capsys.readouterr().out
    assert shell.run_line_magic("daskenv", "up --help") is None
    assert "Usage: %daskenv up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("upp", CommandError, "did you mean 'up'"),
        ("up --nam dev", CommandError, "`%daskenv up` has no option '--nam'; did you mean"),
        ("scale", CommandError, "missing argument 'N'; see `%daskenv scale --help`"),
        ("run f x=[1, 2", CommandError, "is never closed"),
        ("up locl", UnknownNameError, "did you mean 'local'"),
        ("status nosuch  # a comment", UnknownNameError, "no cluster is named 'nosuch'"),
        ("status nosuch;", UnknownNameError, "no cluster is named 'nosuch'"),
    ],
)
def test_an_error_is_raised_and_shown_as_one_sentence(
    shell: InteractiveShell,
    capsys: pytest.CaptureFixture[str],
    line: str,
    error: type[DaskEnvLabError],
    said: str,
) -> None:
    """A cell that fails stops the notebook, and shows the sentence alone."""
    result = shell.run_cell(f"%daskenv {line}")
    assert isinstance(result.error_in_exec, error)
    told = capsys.readouterr()
    shown = (told.out + told.err).strip()
    assert said in shown
    assert len(shown.splitlines()) == 1


def test_a_warning_is_one_plain_line(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook shows a warning's sentence too, and not where in our source it came from."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    shell.run_cell("%daskenv bootstrap --policy use")
    told = capsys.readouterr()
    assert "2012-10-17" in told.out
    assert told.err.startswith("Warning: the policy is for any account")
    assert len(told.err.splitlines()) == 1


def test_debug_lasts_for_one_call(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """`%daskenv --debug` shows the whole traceback, and the next call does not."""
    shell.run_cell("%daskenv --debug status nosuch")
    assert "Traceback" in capsys.readouterr().out
    shell.run_cell("%daskenv status nosuch")
    assert "Traceback" not in capsys.readouterr().out


def test_nothing_in_a_line_is_evaluated(shell: InteractiveShell) -> None:
    """Neither braces nor dollars nor values run code, as they do in other magics."""
    shell.user_ns["touched"] = touched = []
    for text in ("{touched.append(1)}", "$touched", "x=touched.append(1)", "x=[touched.append(1)]"):
        shell.run_cell(f"%daskenv up nosuch --option {text}")
        shell.run_cell(f"%daskenv run nothing {text}")
    assert touched == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%daskenv sca", ["scale"]),
        ("%daskenv s", ["scale", "status", "sync"]),
        ("%daskenv up --na", ["--name"]),
        ("%daskenv up lo", ["local"]),
        ("report = %daskenv up lo", ["local"]),
        ("%daskenv down bl", ["blue"]),
        ("%daskenv run etl --on bl", ["blue"]),
        ("%daskenv scale 3 --name ", ["blue"]),
        ("%daskenv up --min ", []),
        ("%daskenv --de", ["--debug"]),
        ("%daskenv nosuch ", []),
        ("%daskenv boo", ["bootstrap"]),
        ("%daskenv dashboard task", ["task-stream", "tasks"]),
        ("%daskenv dashboard cpu --name b", ["blue"]),
        ("%daskenv bootstrap --pol", ["--policy"]),
        ("%daskenv bootstrap --policy u", ["use"]),
        ("%daskenv bootstrap ", ["ecs", "fargate"]),
        ("%daskenv doctor --name ", ["blue"]),
        ("%daskenv ls re", ["remote"]),
        ("%daskenv up fargate --re", ["--replace", "--rehearse"]),
        ("%daskenv keep-alive bl", ["blue"]),
        ("%daskenv rehearse sta", ["start", "status"]),
        ("%daskenv rehearse start --l", ["--latency"]),
        ("%daskenv rehearse start --latency r", ["realistic"]),
        ("%daskenv rehearse status ", []),
        ("%daskenv rehearse nosuch ", []),
        ("%daskenv run add", ["add_up"]),
        ("%daskenv run add_up ", ["x=", "times="]),
        ("%daskenv run add_up x=3 ti", ["times="]),
    ],
)
def test_what_may_follow_is_offered(
    shell: InteractiveShell,
    line: str,
    offered: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The Tab key offers verbs, options, profiles, clusters, flows and their parameters."""
    from prefect import flow

    from daskenv_lab import registry
    from daskenv_lab.environments import DaskGatewayEnvironment

    @flow
    def add_up(x: list[int], times: int = 1) -> int:
        """Stand for a flow of the notebook."""
        return sum(x) * times

    monkeypatch.chdir(tmp_path)
    shell.user_ns["add_up"] = add_up
    registry.write(registry.new("blue", DaskGatewayEnvironment("local")))
    try:
        assert [w for w in _offered(shell, line) if w.strip()] == offered
    finally:
        registry.forget("blue")


def test_files_are_offered(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python files and folders follow `run` and `export`."""
    (tmp_path / "etl.py").touch()
    (tmp_path / "etl.txt").touch()
    (tmp_path / "etc" / "deep").mkdir(parents=True)
    (tmp_path / "etc" / "deep" / "flow.py").touch()
    monkeypatch.chdir(tmp_path)
    assert _offered(shell, "%daskenv run et") == ["etc/", "etl.py"]
    assert _offered(shell, "%daskenv export etc/deep/f") == ["etc/deep/flow.py"]


def test_other_lines_are_completed_as_ever(shell: InteractiveShell) -> None:
    """Outside of the magic's line our completion keeps out of the way."""
    shell.user_ns["daskenv_thing"] = types.SimpleNamespace(colour=1)
    assert "colour" in " ".join(_offered(shell, "daskenv_thing.col"))
    assert "print" in " ".join(_offered(shell, "pri"))


def test_unloading_takes_everything_away(state_dir: Path) -> None:
    """`%unload_ext` leaves neither magic nor completion, and loading twice adds nothing."""
    shell = InteractiveShell()
    for _ in range(2):
        shell.extension_manager.load_extension("daskenv_lab")
        shell.extension_manager.reload_extension("daskenv_lab")
    assert len(shell.Completer.custom_matchers) == 1
    shell.extension_manager.unload_extension("daskenv_lab")
    assert shell.Completer.custom_matchers == []
    assert "daskenv" not in shell.magics_manager.magics["line"]
    shell.history_manager.end_session()


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import daskenv_lab", "click IPython dask"),
        (LOAD, "click dask"),
        (f"{LOAD}\n{COMPLETE}", ""),
    ],
)
def test_loading_imports_nothing_heavy(code: str, forbidden: str, state_dir: Path) -> None:
    """Neither loading nor the Tab key imports Prefect, distributed, a cloud's SDK or panel."""
    shell = (
        ""
        if code.startswith("import")
        else "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
    )
    check = (
        f"import sys\nheavy = {{*{forbidden.split()!r}, 'prefect', 'distributed', 'boto3', "
        "'botocore', 'panel', 'pandas', 'dask_gateway', 'dask_cloudprovider'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run(
        [sys.executable, "-c", f"{shell}{code}\n{check}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@contextlib.contextmanager
def _kernel() -> Iterator[Callable[[str], str]]:
    """Start a kernel, and give what runs a cell and tells what it showed."""
    manager, client = start_new_kernel(startup_timeout=60)

    def told(code: str) -> str:
        shown: list[str] = []

        def listen(message: dict[str, Any]) -> None:
            kinds = {"stream": "text", "error": "evalue"}
            if message["msg_type"] in kinds:
                shown.append(str(message["content"][kinds[message["msg_type"]]]))

        reply = client.execute_interactive(code, output_hook=listen, timeout=120)
        assert reply["content"]["status"] == "ok", "".join(shown)
        return "".join(shown)

    try:
        told("%load_ext daskenv_lab")
        yield told
    finally:
        client.stop_channels()
        # The hard way, as a kernel that crashes goes.
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_a_cluster_outlives_the_kernel_that_started_it(state_dir: Path, tmp_path: Path) -> None:
    """A second kernel finds the cluster of the first, tunes it, exports it and destroys it."""
    with _kernel() as told:
        assert "Started kernel: 1 worker" in told("%daskenv up local --name kernel --workers 1")
    with _kernel() as told:
        assert "Reusing kernel: 1 worker, up" in told("%daskenv up local --name kernel")
        assert "kernel: asked for 2 workers" in told("%daskenv scale 2  # and more")
        assert "kernel: running" in told("%daskenv status")
        assert str(tmp_path) in told(f"%daskenv export {tmp_path}/environment.py")
        assert "n_workers=2" in (tmp_path / "environment.py").read_text()
        assert "Stopped kernel" in told("%daskenv down")
        assert "no clusters" in told("%daskenv ls")
