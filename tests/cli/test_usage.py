"""Verbs that are mistyped, misused or interrupted say so in one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daskenv_lab import ClusterInfo, ClusterRef
from daskenv_lab.cli import main
from daskenv_lab.cli.surface import Surface, Waiting
from daskenv_lab.cli.tables import listing, status
from daskenv_lab.cluster import WorkerInfo


def _daskenv(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="daskenv")


def test_the_command_alone_shows_a_short_help() -> None:
    """`daskenv` tells every verb and three examples in about twenty lines."""
    result = _daskenv()
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) <= 22
    for verb in main.commands:
        assert verb in result.stdout
    assert result.stdout.count("daskenv") > 3


@pytest.mark.parametrize("verb", sorted(main.commands))
def test_each_verb_tells_its_options(verb: str) -> None:
    """`daskenv VERB --help` works for each verb, without any cluster."""
    result = _daskenv(verb, "--help")
    assert result.exit_code == 0
    assert verb in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["upp"], "no verb is named 'upp'; did you mean 'up'?", 2),
        (["zzz"], "no verb is named 'zzz'; known are: adapt,", 2),
        (["up", "locl"], "no profile or kind is named 'locl'; did you mean 'local'?", 1),
        (["up", "--nme", "x"], "`daskenv up` has no option '--nme'; did you mean '--name'?", 2),
        (["--debgu"], "has no option '--debgu'; did you mean '--debug'?", 2),
        (["scale"], "missing argument 'N'; see `daskenv scale --help`", 2),
        (["scale", "many"], "'many' is not a valid integer", 2),
        (["scale", "3", "4"], "unexpected extra argument", 2),
        (["up", "--option", "x=[1,2"], "x=[1,2 is no Python literal", 2),
        (["up", "--option", "x"], "'x' is no option; write it as name=value", 2),
        (["up", "local", "dev"], "'dev' is no option; write it as name=value", 2),
        (["up", "local", "n_workrs=1"], "did you mean 'n_workers'?", 1),
        (["up", "n_workers=1", "n_workers=2"], "the option 'n_workers' is given twice", 2),
        (["up", "--option", "what=1"], "no setting is named 'what'", 2),
        (["up", "--workers", "2", "--max", "3"], "both n_workers=2 and adaptive bounds", 1),
        (["up", "--name", "../x"], "'../x' cannot name a cluster", 1),
        (["up", "--name", "a\nb"], "cannot name a cluster", 1),
        (["up", "--timeout", "nan"], "'nan' is no duration", 2),
        (["reap", "--idle", "-5"], "'-5' is no duration", 2),
        (["status", "nosuch"], "no cluster is named 'nosuch'", 1),
        (["down", "nosuch"], "no cluster is named 'nosuch'", 1),
        (["down", "dev", "--all"], "down was given both 'dev' and --all", 2),
        (["run", "f.py:f", "x"], "'x' is no parameter", 2),
        (["up", "local", "--rehearse"], "'local' does not run in AWS, and --rehearse is", 2),
        (["up", "--allow-from", "192.0.2.7"], "'local' does not run in AWS, and --allow-from", 2),
        (["up", "gateway", "--bootstrap"], "'gateway' does not run in AWS, and --bootstrap", 2),
        (["ls", "locl"], "no profile or kind is named 'locl'; did you mean 'local'?", 1),
        (["ls", "local", "--rehearse"], "'local' does not run in AWS, and --rehearse is", 2),
        (["reap", "locl"], "did you mean 'local'?", 1),
        (["bootstrap", "local"], "'local' does not run in AWS, and bootstrap is only", 2),
        (["bootstrap", "--policy", "use", "--remove"], "beside --dry-run or --remove", 2),
        (["bootstrap", "--policy", "all"], "'all' is not one of 'bootstrap', 'use'", 2),
        (["doctor", "local"], "'local' does not run in AWS, and the doctor is only", 2),
        (["doctor", "--name", "nosuch"], "no cluster is named 'nosuch'", 1),
        (["dashboard", "task-steam"], "no pane 'task-steam'; did you mean 'task-stream'?", 1),
        (["dashboard", "--name", "nosuch"], "no cluster is named 'nosuch'", 1),
        (["keep-alive"], "missing argument '[NAME] DURATION'", 2),
        (["keep-alive", "soon"], "'soon' is no duration", 2),
        (["keep-alive", "dev", "2", "hours"], "quote a duration with blanks", 2),
        (["keep-alive", "nosuch", "2h"], "no cluster is named 'nosuch'", 1),
        (["rehearse", "strat"], "no verb is named 'strat'; did you mean 'start'?", 2),
        (["rehearse", "start", "--latency", "low"], "'low' is not one of", 2),
    ],
)
def test_a_misused_verb_is_one_sentence(
    arguments: list[str], said: str, code: int, state_dir: Path
) -> None:
    """The sentence goes to stderr with its exit code, and stdout stays empty."""
    result = _daskenv(*arguments)
    assert said in result.stderr
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert result.stderr.count("Error") == 1
    assert "Traceback" not in result.stderr


def test_a_verb_of_verbs_tells_them() -> None:
    """`daskenv rehearse` alone is no error."""
    result = _daskenv("rehearse")
    assert result.exit_code == 0
    assert all(verb in result.stdout for verb in ("start", "status", "stop", "order"))


def test_debug_shows_the_whole_traceback(state_dir: Path) -> None:
    """`--debug` brings the traceback back, for that one call."""
    assert "Traceback" in _daskenv("--debug", "status", "nosuch").stderr
    assert "Traceback" not in _daskenv("status", "nosuch").stderr


def test_profiles_hide_secrets(state_dir: Path) -> None:
    """A password in a profile is not shown."""
    import dask.config

    team = {
        "kind": "gateway",
        "gateway_address": "https://ada:hunter2@gateway.example.org",
        "auth": {"type": "basic", "password": "hunter3"},
    }
    with dask.config.set({"daskenv.profiles": {"team": team}}):
        result = _daskenv("profiles")
    assert result.exit_code == 0
    assert "team" in result.stdout
    assert "Secret('DASKENV_GATEWAY_ADDRESS')" in result.stdout
    assert "hunter" not in result.stdout


def test_a_reader_that_goes_away_is_no_error(state_dir: Path) -> None:
    """A pipe that is closed early gives neither a traceback nor noise at the exit."""
    command = f"{sys.executable} -m daskenv_lab.cli profiles | head -n 0"
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_wait_ends_with_its_code(
    number: signal.Signals, code: int, state_dir: Path
) -> None:
    """Ctrl-C, or a polite kill, while another process holds the name ends at once."""
    from daskenv_lab import registry

    command = [sys.executable, "-m", "daskenv_lab.cli", "up", "--name", "busy"]
    with registry.try_lock("busy") as held:
        assert held
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        said = process.stderr.readline()
        process.send_signal(number)
        out, rest = process.communicate(timeout=120)
    assert "Waiting for another process" in said
    assert process.returncode == code
    assert out == ""
    assert "Traceback" not in rest
    assert ("Interrupted" in rest) == (number == signal.SIGINT)


def test_json_holds_no_numbers_that_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    """Infinite and undefined numbers become text, and broken text is escaped."""
    Surface().say_json({"a": [float("nan"), (float("inf"),)], "b": "\ud800", "c": object})
    told = json.loads(capsys.readouterr().out)
    assert told["a"] == ["nan", ["inf"]]


def test_waiting_tells_a_pipe_only_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence that only counts on is not repeated on a pipe; a terminal has one line."""
    pipe = Waiting(sys.stdout, updating=False)
    for second in range(3):
        pipe(f"Waiting, {second} s")
    pipe("Something else")
    pipe.clear()
    assert capsys.readouterr().out == "Waiting, 0 s\nSomething else\n"
    terminal = Waiting(sys.stdout, updating=True)
    terminal("Waiting for long")
    terminal("Done")
    terminal.clear()
    assert capsys.readouterr().out == "\rWaiting for long\rDone            \r    \r"


def test_a_warning_begins_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """What is being waited for is wiped before a warning is shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: print(message)
        with Surface({}).waiting() as progress:
            progress("Waiting")
            warnings.warn("careful", stacklevel=1)
    assert capsys.readouterr().out == "\rWaiting\r       \rcareful\n"


def test_clusters_are_told_in_columns() -> None:
    """The tables hold names, sizes and addresses, also where little is known."""
    ref = ClusterRef(provider="local", id="8f3e")
    worker = WorkerInfo(
        address="tls://127.0.0.1:1",
        name="w",
        nthreads=2,
        memory_limit=0,
        memory=1,
        cpu=3.2,
        tasks=0,
    )
    info = ClusterInfo(ref=ref, status="running", name="dev", requested=1, workers=(worker,))
    assert status(info).startswith("dev: running\n  workers    1 with 2 threads\n")
    assert "no limit" in status(info)
    assert "stops in" not in status(info)
    aging = replace(info, stops_in=90.0, adaptive=(1, 3), adaptive_holder="ada@laptop")
    assert "size       adaptive, 1 to 3 workers, by ada@laptop" in status(aging)
    assert "stops in   90.00 s, if nobody uses it" in status(aging)
    lines = listing([info, ClusterInfo(ref=ref, status="gone")]).splitlines()
    assert lines[1].startswith("dev     running")
    assert lines[2].startswith("(8f3e)  gone")
    assert "daskenv up" in listing([])


def test_the_help_imports_nothing_heavy(state_dir: Path) -> None:
    """The help needs neither Prefect nor distributed."""
    code = (
        "import sys; from daskenv_lab.cli import main\n"
        "try: main([])\n"
        "except SystemExit: pass\n"
        "heavy = {'prefect', 'distributed', 'dask', 'boto3', 'panel'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=dict(os.environ))
