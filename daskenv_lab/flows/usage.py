"""What one task call uses of its worker: cores and memory.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cloudpickle

from daskenv_lab.flows.names import versioned

if TYPE_CHECKING:
    from io import FileIO

_HERE = Path("/proc/self")

STATUS = 8192
"""Bytes of ``/proc/self/status`` that are read: its lines about memory are among the first."""

RUNNING = versioned("daskenv_running")
"""The attribute of a Dask worker under which it keeps what measures calls now."""


class Usage:
    """Measures one call on a worker, from its making until `taken`, in the thread that runs it.

    Alone in its process, a call has the processor time of all its threads, and the peak of the
    process's memory, which Linux lets a process set back (``/proc/self/clear_refs`` in proc(5)).
    Beside others it has that of its own thread, and the peak since the last call that was alone.
    """

    def __init__(self, worker: Any) -> None:
        running: _Running | None = worker.__dict__.get(RUNNING)
        if running is None:
            running = worker.__dict__.setdefault(RUNNING, _Running())
        self._running = running
        self._alone = True
        running.usages.add(self)
        if len(running.usages) > 1:
            for one in list(running.usages):
                one._alone = False
        if self._alone:
            running.forget_peak()
        self._memory = running.kilobytes(b"VmRSS:")
        self._wall = time.perf_counter()
        self._thread, self._process = time.thread_time(), time.process_time()

    def taken(self) -> dict[str, float | int | None]:
        """Give ``cpu``, the cores kept busy on average, and ``memory``, the growth in bytes."""
        thread, process = time.thread_time() - self._thread, time.process_time() - self._process
        wall = time.perf_counter() - self._wall
        self._running.usages.discard(self)
        grown = None
        if self._memory is not None and (peak := self._running.kilobytes(b"VmHWM:")) is not None:
            grown = max(peak - self._memory, 0) * 1024
        return {"cpu": (process if self._alone else thread) / max(wall, 1e-9), "memory": grown}


class _Running:
    """What measures calls on a worker now, and the files that tell of its process.

    They stay open, since opening them takes longer than all else here, for each small task.
    """

    def __init__(self) -> None:
        self.usages: set[Usage] = set()
        self._status = _opened("status", "rb")
        self._references = _opened("clear_refs", "wb")

    def forget_peak(self) -> None:
        """Let the peak of the process's memory be what it has now."""
        if self._references is not None:
            # A sandbox may forbid what it lets open.
            with contextlib.suppress(OSError):
                os.pwrite(self._references.fileno(), b"5", 0)

    def kilobytes(self, word: bytes) -> int | None:
        """Read one figure about this process; None where there is no such file."""
        if self._status is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            _, found, rest = os.pread(self._status.fileno(), STATUS, 0).partition(word)
            return int(rest.split(maxsplit=1)[0]) if found else None
        return None


def _opened(name: str, mode: Literal["rb", "wb"]) -> FileIO | None:
    with contextlib.suppress(OSError):
        return (_HERE / name).open(mode, buffering=0)
    return None


cloudpickle.register_pickle_by_value(sys.modules[__name__])
