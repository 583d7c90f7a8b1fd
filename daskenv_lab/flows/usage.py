"""What one task call uses of its worker: cores and memory.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import cloudpickle

_HERE = Path("/proc/self")

RUNNING = "daskenv_usages"
"""The attribute of a Dask worker under which it keeps what measures calls now."""


class Usage:
    """Measures one call on a worker, from its making until `taken`, in the thread that runs it.

    Alone in its process, a call has the processor time of all its threads, and the peak of the
    process's memory, which Linux lets a process set back (``/proc/self/clear_refs`` in proc(5)).
    Beside others it has that of its own thread, and the peak since the last call that was alone.
    """

    def __init__(self, worker: Any) -> None:
        self._running: set[Usage] = worker.__dict__.setdefault(RUNNING, set())
        self._alone = True
        self._running.add(self)
        if len(self._running) > 1:
            for one in list(self._running):
                one._alone = False
        if self._alone:
            with contextlib.suppress(OSError):
                (_HERE / "clear_refs").write_text("5")
        self._memory = _kilobytes("VmRSS")
        self._wall = time.perf_counter()
        self._thread, self._process = time.thread_time(), time.process_time()

    def taken(self) -> dict[str, float | int | None]:
        """Give ``cpu``, the cores kept busy on average, and ``memory``, the growth in bytes."""
        thread, process = time.thread_time() - self._thread, time.process_time() - self._process
        wall = time.perf_counter() - self._wall
        self._running.discard(self)
        grown = None
        if self._memory is not None and (peak := _kilobytes("VmHWM")) is not None:
            grown = max(peak - self._memory, 0) * 1024
        return {"cpu": (process if self._alone else thread) / max(wall, 1e-9), "memory": grown}


def _kilobytes(word: str) -> int | None:
    """Read one figure about this process; None where there is no such file."""
    with contextlib.suppress(OSError, ValueError):
        _, found, rest = (_HERE / "status").read_text().partition(f"{word}:")
        return int(rest.split(maxsplit=1)[0]) if found else None
    return None


cloudpickle.register_pickle_by_value(sys.modules[__name__])
