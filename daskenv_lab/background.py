"""Background processes that outlive the kernel, and the private files they are found by."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import psutil

from daskenv_lab import config
from daskenv_lab.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# The time at which a process started is told with the boot time, which moves a little when the
# clock is set.
_SAME_START = 5.0

ROOM = 2 * 1024 * 1024
"""Bytes that must be free where a background server keeps its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """A process by its number and its start, so that a reused number is noticed."""

    pid: int
    started: float
    """Seconds since 1970."""

    @classmethod
    def current(cls) -> Self:
        """Describe this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Self:
        """Describe a process that was just started."""
        try:
            return cls(pid=pid, started=psutil.Process(pid).create_time())
        except psutil.Error:
            return cls(pid=pid, started=time.time())

    def process(self) -> psutil.Process | None:
        """Find it, or None if it ended or its number belongs to another now."""
        try:
            found = psutil.Process(self.pid)
            if abs(found.create_time() - self.started) > _SAME_START:
                return None
            return None if found.status() == psutil.STATUS_ZOMBIE else found
        except (psutil.Error, ValueError):
            return None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process() is not None

    def terminate(self, timeout: float) -> bool:
        """Ask it to end, wait, and tell whether it did."""
        if (found := self.process()) is None:
            return True
        with contextlib.suppress(psutil.NoSuchProcess):
            found.terminate()
        return gone([found], timeout)

    def kill(self) -> None:
        """End it and its children at once."""
        if (found := self.process()) is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            end_all([*found.children(recursive=True), found], patience=0)


def gone(processes: Sequence[psutil.Process], timeout: float) -> bool:
    """Wait until all have ended; one that nobody has reaped yet counts as ended.

    In a container whose first process is no init, such as Binder's, nobody ever reaps a server
    that was started in the background, and psutil alone would wait for it to the end.
    """
    deadline = time.monotonic() + timeout
    left = list(processes)
    while left:
        wait = min(0.1, max(0.0, deadline - time.monotonic()))
        _, there = psutil.wait_procs(left, timeout=wait)
        left = [p for p in there if not _is_zombie(p)]
        if left and time.monotonic() >= deadline:
            return False
    return True


def end_all(processes: Sequence[psutil.Process], *, patience: float) -> None:
    """Terminate processes, and kill after `patience` seconds those that stay."""
    if patience:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        gone(processes, timeout=patience)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    gone(processes, timeout=5)


def processes_under(folder: Path) -> list[psutil.Process]:
    """List this user's processes whose working directory is in a folder, or was before it went."""
    found = []
    inside = os.path.realpath(folder)
    for process in psutil.process_iter():
        try:
            where = process.cwd()
        except psutil.Error:
            continue
        if where == inside or where.startswith((inside + os.sep, inside + " (deleted)")):
            found.append(process)
    return found


def spawn(
    module: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    order: bytes = b"",
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a module detached from this process and its terminal.

    Parameters
    ----------
    module : str
        The module's dotted path, for ``python -m``.
    arguments : list of str
        Its command line, which other users of the machine can read.
    folder : Path
        Its working directory; its output goes to ``<module's last name>.log`` there.
    order : bytes
        What it reads from its standard input, which nobody else can read.
    variables : mapping of str to str, optional
        Process variables that it has besides those of this process.

    Raises
    ------
    StateError
        The log cannot be written, or there is hardly any room left.
    """
    if (free := shutil.disk_usage(folder).free) < ROOM:
        raise StateError(
            f"{folder} has only {free // 1024} kB left, too little for a server's files; make "
            "room, or name another folder with DASK_DASKENV__STATE_DIR"
        )
    detached: dict[str, Any] = (
        {"creationflags": 0x00000208}  # DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    try:
        with open_private(log_file(folder, module), append=True) as log:
            child = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=folder,
                env=config.process_variables(**(variables or {})),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                **detached,
            )
    except OSError as error:
        raise _unusable(folder, error) from error
    # Reaps the child if it ends before we do, so that it is not taken for alive.
    threading.Thread(target=child.wait, name="daskenv-reaper", daemon=True).start()
    assert child.stdin is not None  # noqa: S101 - for the type checker
    with contextlib.suppress(OSError), child.stdin:
        child.stdin.write(order)
    return child


def log_file(folder: Path, module: str) -> Path:
    """Name the log of a background module."""
    return folder / f"{module.rsplit('.', 1)[-1]}.log"


def last_lines(path: Path, lines: int = 12) -> str:
    """Give a log's last lines, or an empty text if there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 64_000))
            return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""


def private_folder(path: Path) -> Path:
    """Make a folder that only this user can enter.

    Raises
    ------
    StateError
        It cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise _unusable(path, error) from error
    return path


def open_private(path: Path, *, append: bool = False) -> Any:
    """Open a file for writing bytes that only this user can read."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
    return os.fdopen(os.open(path, flags, 0o600), "ab" if append else "wb")


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record, for this user alone, so that a reader sees all of it or the one before.

    Raises
    ------
    StateError
        It cannot be written: a full disk, or a folder that is not ours.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with contextlib.ExitStack() as undo:
            undo.callback(fresh.unlink, missing_ok=True)
            with open_private(fresh) as file:
                file.write(json.dumps(record, indent=1).encode())
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            undo.pop_all()
    except OSError as error:
        raise _unusable(path, error) from error


def read_record(path: Path) -> dict[str, Any]:
    """Read a record; empty if there is none or it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def recorded_process(record: dict[str, Any]) -> Background | None:
    """Find the process that a record names by ``pid`` and ``started``, if it runs."""
    pid, started = record.get("pid"), record.get("started")
    if not isinstance(pid, int) or not isinstance(started, int | float):
        return None
    found = Background(pid=pid, started=started)
    return found if found.alive else None


def end_on_signal(event: threading.Event) -> None:
    """Set `event` on SIGTERM and SIGINT, in place of dying.

    A thread sets it. A handler runs between any two steps of the main thread, which may have the
    event's lock just then: setting it there would wait for ever.
    """
    came: queue.SimpleQueue[int] = queue.SimpleQueue()

    def set_it() -> None:
        came.get()
        event.set()

    threading.Thread(target=set_it, name="daskenv-signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        # This `put` may interrupt itself, as no lock of Python's does.
        signal.signal(number, lambda number, _: came.put(number))


def _unusable(path: Path, error: OSError) -> StateError:
    return StateError(
        f"{path} cannot be written ({error.strerror or error}); make room or mend its "
        "permissions, or name another folder with DASK_DASKENV__STATE_DIR"
    )


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
