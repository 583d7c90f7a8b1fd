"""What all tests stand on: folders of their own, and a check that no process stays behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

_ROOT = Path(tempfile.mkdtemp(prefix="daskenv-test-"))

# Before anything imports Dask or Prefect, which read these once.
os.environ.update(
    HOME=str(_ROOT / "home"),
    PREFECT_HOME=str(_ROOT / "home" / ".prefect"),
    XDG_CONFIG_HOME=str(_ROOT / "home" / ".config"),
    DASK_DASKENV__STATE_DIR=str(_ROOT / "state"),
    DASK_CONFIG=str(_ROOT / "home" / ".config" / "dask"),
    IPYTHONDIR=str(_ROOT / "home" / ".ipython"),
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    # A busy machine may need longer than a user should be kept waiting.
    DASK_DASKENV__PRODUCTION__PROOF_TIMEOUT="10 minutes",
    # Dask looks at its own idle processes fifty to a hundred times a second, which takes 4% of a
    # core for each worker and 6% for the process of a scheduler; now it is 1% and 3%.
    DASK_DISTRIBUTED__WORKER__PROFILE__INTERVAL="500ms",
    DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL="500ms",
    # The workers of a LocalCluster are forked from a process that has imported Dask already.
    DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD="forkserver",
    # What processes import before all else: see `_without_a_slow_checker`.
    PYTHONPATH=str(_ROOT / "lean"),
)
for _name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"):
    os.environ.pop(_name, None)
(_ROOT / "home").mkdir()


def _without_a_slow_checker() -> None:
    """Let Prefect's own processes start as quickly as where Jupyter is not installed.

    Half the time of ``import prefect`` goes into a grammar of IRIs, for which nobody here asks: see
    `daskenv_lab.flows.lightly`, which spares it our processes.
    """
    (_ROOT / "lean").mkdir()
    (_ROOT / "lean" / "rfc3987_syntax.py").write_text("raise ImportError('left out in tests')\n")


_without_a_slow_checker()

# A shell's background job ignores SIGINT, and so would all processes that the tests interrupt.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish() -> None:
    """Remove the folders, also of the process that only hands out the tests."""
    shutil.rmtree(_ROOT, ignore_errors=True)


@pytest.fixture(scope="session")
def state_dir() -> Path:
    """Give the state folder that all tests, and the processes they start, share."""
    return _ROOT / "state"


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Stop the background servers at the end, and fail if any process of ours stays."""
    yield
    from prefect.logging.handlers import APILogWorker

    from daskenv_lab import rehearsal
    from daskenv_lab.flows.api import stop_local_api
    from daskenv_lab.providers.local import stop_server

    stop_server(timeout=120)
    # What this process has still to tell the API would be tried for a minute after it is gone.
    APILogWorker.drain_all(timeout=30)
    stop_local_api(timeout=120)
    rehearsal.stop(timeout=120)
    deadline = time.monotonic() + 120
    while (left := processes_in(_ROOT)) and time.monotonic() < deadline:
        time.sleep(0.2)
    lines = [f"{p.pid}: {' '.join(p.cmdline())[:200]}" for p in left if p.is_running()]
    for process in left:
        process.kill()
    shutil.rmtree(_ROOT, ignore_errors=True)
    assert not lines, "processes left behind:\n" + "\n".join(lines)


def processes_in(folder: Path) -> list[psutil.Process]:
    """List other processes that work in a folder, or know it from a variable or an argument."""
    word = str(folder)
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            line = process.cmdline()
            told = [process.cwd(), *line, *process.environ().values()]
        except (psutil.Error, OSError):
            continue
        # Python's own tracker and fork server, of this process, end with it.
        own = process.ppid() == os.getpid()
        tracker = own and re.search("resource_tracker|forkserver", " ".join(line))
        zombie = process.status() == psutil.STATUS_ZOMBIE
        if not tracker and not zombie and any(word in text for text in told):
            found.append(process)
    return found
