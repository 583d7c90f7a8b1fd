"""Starting, finding and stopping the rehearsal's server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dask
import psutil
import pytest

from daskenv_lab import rehearsal
from daskenv_lab.background import processes_under, read_record
from daskenv_lab.errors import ConfigError, NotSupported, ProviderUnreachable
from tests.waiting import until

# A server takes seconds to start on a busy machine, and most tests here start their own.
pytestmark = pytest.mark.slow


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Path]:
    """Give a state folder of its own, in which nothing runs afterwards."""
    with dask.config.set({"daskenv.state-dir": str(tmp_path)}):
        yield tmp_path
        rehearsal.stop(20)
        assert processes_under(tmp_path) == []


def test_start_status_stop(apart):
    """A server is found again, tells what AWS's tools need, and leaves no file behind."""
    assert rehearsal.status() is None
    assert rehearsal.stop(5) is False
    told: list[str] = []
    here = rehearsal.start(timeout=120, progress=told.append)
    assert told == ["starting the rehearsal on this machine"]
    assert rehearsal.start(timeout=120) == rehearsal.status() == here
    assert set(here.to_dict()) == {"endpoint", "region", "key_id", "secret", "pid", "account"}
    assert here.secret not in repr(here)
    assert here.secret not in " ".join(psutil.Process(here.pid).cmdline())
    record = rehearsal.server_folder() / "server.json"
    assert record.stat().st_mode & 0o777 == 0o600
    assert rehearsal.Rehearsal.from_dict(read_record(record)) == here
    assert rehearsal.stop(20) is True
    assert not psutil.pid_exists(here.pid) or _zombie(here.pid)
    assert [p.name for p in rehearsal.server_folder().iterdir() if p.suffix != ".lock"] == []
    with pytest.raises(ProviderUnreachable, match="rehearse start"):
        rehearsal.faults()


def test_two_that_start_at_once_get_the_same_server(apart):
    """However many ask at the same time, one server is started."""
    program = (
        "from daskenv_lab import rehearsal; import json;"
        "print(json.dumps(rehearsal.start(timeout=80).to_dict()))"
    )
    variables = {**os.environ, "DASK_DASKENV__STATE_DIR": str(apart)}
    started = [
        subprocess.Popen([sys.executable, "-c", program], env=variables, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    answers = [json.loads(process.communicate(timeout=100)[0]) for process in started]
    assert answers[0] == answers[1]
    # It outlives those who started it.
    assert rehearsal.status() == rehearsal.Rehearsal.from_dict(answers[0])


def test_a_killed_server_leaves_no_process(apart, account_at):
    """After kill -9 of the server its tasks end by themselves, and another can start."""
    here = rehearsal.start(timeout=120)
    account = account_at(here)
    for arn in [account.run(account.define(["sleep", "300"])) for _ in range(2)]:
        account.wait(arn, "RUNNING")
    tasks = rehearsal.server_folder() / "tasks"
    assert len(processes_under(tasks)) == 2
    psutil.Process(here.pid).kill()
    until(lambda: not processes_under(rehearsal.server_folder()))
    assert rehearsal.status() is None
    assert rehearsal.start(timeout=120).pid != here.pid


def test_stop_ends_running_tasks_at_once(apart, account_at):
    """Stopping the rehearsal does not wait for tasks that ignore SIGTERM."""
    account = account_at(rehearsal.start(timeout=120))
    deaf = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(300)"
    arn = account.run(account.define(["python", "-c", deaf]))
    account.wait(arn, "RUNNING")
    # A container that is asked has 30 s, as in ECS.
    assert rehearsal.stop(25)


def test_an_idle_server_ends_by_itself(apart, account_at):
    """Without tasks and calls it ends after its idle timeout, and with a task it stays."""
    with dask.config.set({"daskenv.rehearsal.idle-timeout": "10 seconds"}):
        here = rehearsal.start(timeout=120)
    account = account_at(here)
    arn = account.run(account.define(["sleep", "300"]))
    account.wait(arn, "RUNNING")
    time.sleep(15)
    assert rehearsal.status() is not None
    account.ecs.stop_task(cluster=account.cluster, task=arn)
    until(lambda: rehearsal.status() is None)


def test_images_and_latency_come_from_the_configuration(apart, account_at, tmp_path):
    """An image's folder comes first in its PATH, false is no image, and steps take their time."""
    folder = tmp_path / "old"
    folder.mkdir()
    script = folder / "dask-scheduler"
    script.write_text('#!/bin/sh\necho old scheduler "$@"\n')
    script.chmod(0o755)
    settings = {
        "daskenv.rehearsal.images": {"old/*": str(folder), "gone/*": False},
        "daskenv.rehearsal.latency": {"container-start": 0.5},
    }
    with dask.config.set(settings):
        account = account_at(rehearsal.start(timeout=120))
    begun = time.monotonic()
    task, output = account.ran(["dask-scheduler"], container={"image": "old/dask:1"})
    assert time.monotonic() - begun > 0.5
    assert output.startswith("old scheduler --host 127.77.")
    assert task["containers"][0]["exitCode"] == 0
    gone = account.run(account.define(["sleep", "1"], container={"image": "gone/dask:1"}))
    assert "CannotPullContainerError" in account.wait(gone, "STOPPED")["stoppedReason"]


def test_the_private_way_in_needs_the_secret(here):
    """Faults cannot be ordered by whoever merely finds the port."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{here.endpoint}/daskenv/faults", timeout=5)
    assert caught.value.code == 403


def test_a_latency_that_is_unknown_names_the_nearest(here):
    """A misspelt profile is an error before anything happens."""
    with pytest.raises(ConfigError, match="realistic"):
        rehearsal.start(latency="realistc")


def test_without_moto_the_error_names_the_pip_command(apart, monkeypatch):
    """What is missing is told with what to type."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(NotSupported, match=r'pip install "daskenv_lab\[rehearsal\]"'):
        rehearsal.start(timeout=5)


def _zombie(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True
