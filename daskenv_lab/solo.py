"""What servers have in common of which there is one for each user and interpreter."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from typing import TYPE_CHECKING

import filelock

from daskenv_lab import config
from daskenv_lab.background import end_all, processes_under, read_record, recorded_process
from daskenv_lab.errors import StateError, WaitTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK = "start.lock"
_PATIENCE = 2.0


def folder_of(kind: str, *made_of: str) -> Path:
    """Give the folder of this interpreter's server of a kind; `made_of` tells further ones apart.

    Examples
    --------
    >>> folder_of("rehearsal").name.startswith("rehearsal-")
    True
    """
    known_by = "\n".join([sys.executable, sys.prefix, *made_of])
    fingerprint = hashlib.sha256(known_by.encode()).hexdigest()[:12]
    return config.state_dir() / f"{kind}-{fingerprint}"


def folders(kind: str) -> list[Path]:
    """List the folders of this user's servers of a kind, those of other interpreters too."""
    return sorted(config.state_dir().glob(f"{kind}-*"))


@contextlib.contextmanager
def locked(folder: Path, timeout: float, *, what: str) -> Iterator[None]:
    """Be the only one who starts or stops a server.

    Raises
    ------
    WaitTimeout
        Another process does so for longer than `timeout` seconds.
    StateError
        The lock's file cannot be made.
    """
    lock = filelock.FileLock(folder / _LOCK, mode=0o600)
    try:
        lock.acquire(timeout=timeout, poll_interval=0.05)
    except filelock.Timeout as error:
        raise WaitTimeout(
            f"another process has been starting or stopping {what} in {folder} for {timeout:g} s; "
            "try again, or see the logs there"
        ) from error
    except OSError as error:
        raise StateError(
            f"{folder / _LOCK} cannot be written ({error.strerror or error}); mend the folder, or "
            "name another with DASK_DASKENV__STATE_DIR"
        ) from error
    try:
        yield
    finally:
        lock.release()


def stop_all(kind: str, timeout: float, *, record: str, what: str) -> int:
    """Stop each server of a kind with all that it started, and give how many ran.

    What remains after `timeout` seconds is killed.

    Raises
    ------
    WaitTimeout
        Another process is starting one at this moment, and does not finish.
    """
    ran = 0
    for folder in folders(kind):
        with locked(folder, timeout, what=what):
            if (server := recorded_process(read_record(folder / record))) is not None:
                ran += 1
                if not server.terminate(timeout):
                    server.kill()
            clean(folder)
    return ran


def clean(folder: Path) -> None:
    """End what a server left running, and remove its files."""
    end_all(processes_under(folder), patience=_PATIENCE)
    for inside in folder.iterdir():
        if inside.is_dir():
            shutil.rmtree(inside, ignore_errors=True)
        elif inside.suffix != ".lock":
            inside.unlink(missing_ok=True)
