"""The Prefect API that flows report to: the user's own, or one on this machine.

Without any set-up one background server is started for each user and state folder, and found
again by every later kernel. Its record holds its address, process and start time.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from filelock import FileLock, Timeout
from prefect.settings import (
    PREFECT_API_KEY,
    PREFECT_API_URL,
    get_current_settings,
    temporary_settings,
)

from daskenv_lab import config
from daskenv_lab.background import (
    Background,
    end_all,
    last_lines,
    log_file,
    read_record,
    recorded_process,
    spawn,
    write_record,
)
from daskenv_lab.errors import PrefectApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RECORD = "prefect-api.json"
LOCK = "prefect-api.lock"
SERVER = "daskenv_lab.flows.prefect_server"
"""The module that is run."""

DATABASE = "prefect.db"

_DATABASE_VARIABLES = (
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
)

RECORDER = {"batch_size": 200, "flush_interval": 1}
"""How the server gathers what it is told of task runs; the user's own settings come first.

By default each event has a transaction of its own. A thousand task runs then take five times as
long, and meanwhile SQLite refuses other writers more often (see `prefect_server`). The server
rounds the seconds down, and at 0 never rests.
"""


@contextlib.contextmanager
def prefect_api(progress: Callable[[str], None] | None = None) -> Iterator[str]:
    """Give the address of a Prefect API that answers, and let flows inside use it.

    Parameters
    ----------
    progress : callable, optional
        Told what is being waited for.

    Raises
    ------
    PrefectApiError
        It does not answer, or may not be started.

    Examples
    --------
    >>> with prefect_api(print) as url:  # doctest: +SKIP
    ...     etl()
    """
    url = PREFECT_API_URL.value()
    if url:
        _check_answer(url)
        yield url
        return
    if not config.flag("prefect.start-local-api"):
        raise PrefectApiError(
            "Prefect is told of no API and daskenv.prefect.start-local-api is false; set "
            "PREFECT_API_URL, or allow the local API"
        )
    url = ensure_local_api(progress)
    with temporary_settings({PREFECT_API_URL: url}):
        yield url


def ensure_local_api(progress: Callable[[str], None] | None = None) -> str:
    """Find the background server of this state folder, or start it; give its address.

    Raises
    ------
    PrefectApiError
        It did not start in time; the message holds the end of its log.
    """
    limit = config.seconds("timeouts.prefect-api")
    started = time.monotonic()
    folder = config.state_dir()
    if running := _running(folder):
        _poll(running, folder, started, limit, progress or _silent)
        return str(running["url"])
    lock = FileLock(folder / LOCK)
    while True:
        try:
            with lock.acquire(timeout=1):
                record = _running(folder) or _start(folder)
                _poll(record, folder, started, limit, progress or _silent)
                return str(record["url"])
        except Timeout as error:
            waited = time.monotonic() - started
            if waited > limit:
                raise PrefectApiError(
                    f"another process has been starting the local Prefect API for {waited:.0f} s; "
                    f"look at {log_file(folder, SERVER)}, or stop it with `daskenv down --all`"
                ) from error
            (progress or _silent)(f"Waiting for another start of the Prefect API … {waited:.0f} s")


def local_api_status() -> dict[str, Any] | None:
    """Tell the address, process and health of the local API; None if none runs."""
    record = _running(config.state_dir())
    return None if record is None else {**record, "healthy": _answers(str(record["url"]))}


def stop_local_api(timeout: float = 30.0) -> bool:
    """Stop the local API if it runs, and wait until it is gone; what remains is killed.

    Returns
    -------
    bool
        Whether there was one.
    """
    folder = config.state_dir()
    server = recorded_process(read_record(folder / RECORD))
    process = server.process() if server else None
    if process is None:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        end_all([process, *process.children(recursive=True)], patience=timeout)
    (folder / RECORD).unlink(missing_ok=True)
    return True


def _running(folder: Path) -> dict[str, Any] | None:
    """Read the record, and check that its process is still the one that was recorded."""
    record = read_record(folder / RECORD)
    if recorded_process(record) is None or not isinstance(record.get("url"), str):
        return None
    return record


def _start(folder: Path) -> dict[str, Any]:
    port = config.whole("prefect.port") or _last_port(folder) or _free_port()
    url = f"http://127.0.0.1:{port}/api"
    variables = {
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_API_URL": url,
        "DO_NOT_TRACK": "1",
    }
    if not any(config.process_variables().get(name) for name in _DATABASE_VARIABLES):
        database = (folder / DATABASE).as_posix()
        variables[_DATABASE_VARIABLES[0]] = f"sqlite+aiosqlite:///{database}"
    own = get_current_settings().server.services.task_run_recorder.model_fields_set
    for name in RECORDER.keys() - own:
        variables[f"PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_{name.upper()}"] = str(RECORDER[name])
    arguments = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = spawn(SERVER, arguments, folder=folder, variables=variables)
    server = Background.of(process.pid)
    record = {"url": url, "port": port, "pid": server.pid, "started": server.started}
    try:
        write_record(folder / RECORD, record)
    except BaseException:
        process.terminate()
        raise
    return record


def _poll(
    record: dict[str, Any],
    folder: Path,
    started: float,
    limit: float,
    progress: Callable[[str], None],
) -> None:
    url, log = str(record["url"]), log_file(folder, SERVER)
    told = 0.0
    while not _answers(url):
        waited = time.monotonic() - started
        if _running(folder) is None:
            raise PrefectApiError(
                f"the local Prefect API ended while it started: {_last_word(log)} "
                f"(its log is {log}); try again, or set PREFECT_API_URL"
            )
        if waited > limit:
            raise PrefectApiError(
                f"the local Prefect API does not answer at {url} after {waited:.0f} s; look at "
                f"{log}, allow more with daskenv.timeouts.prefect-api, or stop it with "
                "`daskenv down --all`"
            )
        if waited - told >= 1 or not told:
            told = max(waited, 0.001)
            progress(
                "Starting the local Prefect API (its first start migrates a database and takes "
                f"up to a minute) … {waited:.0f} s"
            )
        time.sleep(0.2)


def _check_answer(url: str) -> None:
    headers = {}
    if key := PREFECT_API_KEY.value():
        headers["Authorization"] = f"Bearer {key}"
    limit = config.seconds("timeouts.connect")
    try:
        answer = httpx.get(f"{url.rstrip('/')}/health", headers=headers, timeout=limit)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PrefectApiError(
            f"the Prefect API at {url} does not answer ({type(error).__name__}: {error}); start "
            "it, or unset PREFECT_API_URL to use one on this machine"
        ) from error
    if answer.status_code in (401, 403):
        raise PrefectApiError(
            f"the Prefect API at {url} refuses the key (HTTP {answer.status_code}); log in with "
            "`prefect cloud login`, or set PREFECT_API_KEY"
        )
    if answer.status_code >= 500:
        raise PrefectApiError(
            f"the Prefect API at {url} is not well (HTTP {answer.status_code}); look at its log"
        )


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _last_port(folder: Path) -> int | None:
    """Give the port of the server before, if it is free: long-lived workers know it."""
    try:
        port = int(read_record(folder / RECORD)["port"])
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", port))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return port


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def _last_word(path: Path) -> str:
    lines = [line.strip() for line in last_lines(path).splitlines() if line.strip()]
    return lines[-1] if lines else "it left no word"


def _silent(_: str) -> None:
    return
