"""The rehearsal's background server: one for each user and interpreter, found again by all."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import TYPE_CHECKING, Any

from daskenv_lab import config, solo
from daskenv_lab.background import (
    last_lines,
    log_file,
    private_folder,
    read_record,
    recorded_process,
    spawn,
)
from daskenv_lab.bounded import Deadline
from daskenv_lab.errors import ClusterStartError, NotSupported, WaitTimeout
from daskenv_lab.rehearsal.place import Latency, Rehearsal
from daskenv_lab.rehearsal.wire import ask, healthy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import Popen

SERVER = "daskenv_lab.rehearsal.server"
RECORD = "server.json"
_KIND = "rehearsal"
_WHAT = "the rehearsal"
_PATIENCE = 20.0

# moto reads these when it is imported: AWS's own policies are wanted, its machine images are not.
_FOR_MOTO = {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true", "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}


def start(
    *,
    timeout: float | None = None,
    progress: Callable[[str], None] | None = None,
    latency: str | None = None,
) -> Rehearsal:
    """Find the running rehearsal, or start it, once however many ask.

    It outlives this process, and ends by itself when it has had no tasks and no calls for
    ``daskenv.rehearsal.idle-timeout``.

    Parameters
    ----------
    timeout : float, optional
        Seconds to wait for it; by default ``daskenv.timeouts.start``.
    progress : callable, optional
        Told what is waited for.
    latency : str, optional
        A profile, ``none`` or ``realistic``, that a running rehearsal takes over too. By default
        ``daskenv.rehearsal.latency`` for a new one.

    Raises
    ------
    NotSupported
        moto is not installed, or this is not Linux.
    ClusterStartError, WaitTimeout
        It did not start; its log's last lines are in the message.

    Examples
    --------
    >>> start().region  # doctest: +SKIP
    'us-east-1'
    """
    wanted = None if latency is None else Latency.of(latency)
    deadline = Deadline(config.seconds("timeouts.start") if timeout is None else timeout)
    folder = server_folder()
    patience = min(_PATIENCE, deadline.left / 2)
    here = _running(folder, patience)
    if here is None:
        _can_rehearse()
        private_folder(folder)
        with solo.locked(folder, deadline.left, what=_WHAT):
            here = _running(folder, patience)
            if here is None:
                (progress or _silent)("starting the rehearsal on this machine")
                return _start(folder, deadline, wanted)
    if wanted is not None:
        ask(here, "POST", "latency", wanted.to_dict())
    return here


def status() -> Rehearsal | None:
    """Find the running rehearsal of this interpreter, or None."""
    return _running(server_folder(), _PATIENCE)


def stop(timeout: float) -> bool:
    """Stop every rehearsal of this user with all its tasks, and remove its files.

    Parameters
    ----------
    timeout : float
        Seconds for each to end in good order; what remains is killed.

    Returns
    -------
    bool
        Whether one ran.

    Raises
    ------
    WaitTimeout
        Another process is starting one at this moment, and does not finish.
    """
    return solo.stop_all(_KIND, timeout, record=RECORD, what=_WHAT) > 0


def server_folder() -> Path:
    """Give the folder of the rehearsal whose tasks run with this interpreter."""
    return solo.folder_of(_KIND)


def _running(folder: Path, patience: float) -> Rehearsal | None:
    """Find it; one that runs and is silent, on a busy machine, is given time to answer."""
    deadline = Deadline(patience)
    while recorded_process(record := read_record(folder / RECORD)):
        if healthy(str(record.get("endpoint"))):
            return Rehearsal.from_dict(record)
        if deadline.passed:
            return None
        deadline.pause(0.2)
    return None


def _can_rehearse() -> None:
    if not sys.platform.startswith("linux"):
        raise NotSupported(
            f"a rehearsal needs Linux, where all of 127.0.0.0/8 is this machine, and this is "
            f"{sys.platform}; use a Linux machine or container, or a real account"
        )
    # Looked for, and not imported: only the server needs it.
    missing = [name for name in ("moto", "flask") if importlib.util.find_spec(name) is None]
    if missing:
        raise NotSupported(
            f"a rehearsal needs {' and '.join(missing)}, which cannot be imported; "
            'run pip install "daskenv_lab[rehearsal]"'
        )


def _start(folder: Path, deadline: Deadline, latency: Latency | None) -> Rehearsal:
    old = recorded_process(read_record(folder / RECORD))
    if old is not None:
        # It runs and does not answer: nothing can be asked of it any more.
        old.kill()
    solo.clean(folder)
    settings: dict[str, Any] = {
        "region": str(config.get("rehearsal.region")),
        "idle_timeout": config.seconds("rehearsal.idle-timeout"),
        "latency": (latency or Latency.of(config.get("rehearsal.latency"))).to_dict(),
        "images": dict(config.get("rehearsal.images") or {}),
    }
    order = json.dumps(settings).encode()
    child = spawn(SERVER, [str(folder)], folder=folder, order=order, variables=_FOR_MOTO)
    try:
        return _started(child, folder, deadline)
    except BaseException:
        if child.poll() is None:
            child.terminate()
        raise


def _started(child: Popen[bytes], folder: Path, deadline: Deadline) -> Rehearsal:
    log = log_file(folder, SERVER)
    while True:
        record = read_record(folder / RECORD)
        if record.get("pid") == child.pid and healthy(str(record.get("endpoint"))):
            return Rehearsal.from_dict(record)
        if child.poll() is not None:
            raise ClusterStartError(
                f"the rehearsal ended with code {child.returncode} before it was ready; its log "
                f"{log} says:\n{last_lines(log)}"
            )
        if deadline.passed:
            raise WaitTimeout(
                f"the rehearsal did not start within {deadline.seconds:g} s; raise "
                f"daskenv.timeouts.start; its log {log} says:\n{last_lines(log)}"
            )
        deadline.pause(0.05)


def _silent(_: str) -> None:
    pass
