"""What a call is said to use of its worker."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from daskenv_lab.flows.usage import Usage

MB = 1_000_000

on_linux = pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"),  # noqa: PTH110 - Linux
    reason="only Linux tells of a peak and lets it be set back",
)


def hold(size: int) -> None:
    """Have so much memory for a moment."""
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])


def open_of_proc() -> int:
    """Count the open files that tell of this process; others of the tests' come and go."""
    found = 0
    for number in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(number.readlink()).startswith(f"/proc/{os.getpid()}/")
    return found


@on_linux
def test_a_peak_is_that_of_its_own_call() -> None:
    """What one call held is not counted for the next."""
    worker = SimpleNamespace()
    grown = []
    for size in (80 * MB, 0, 40 * MB):
        usage = Usage(worker)
        hold(size)
        grown.append(usage.taken()["memory"] or 0)
    assert 70 * MB < grown[0] < 120 * MB
    assert grown[1] < 10 * MB
    assert 35 * MB < grown[2] < 70 * MB


@on_linux
def test_ten_thousand_calls_open_no_more_files_than_one() -> None:
    """What is read of the process stays open."""
    worker = SimpleNamespace()
    Usage(worker).taken()
    before = open_of_proc()
    for _ in range(10_000):
        Usage(worker).taken()
    assert open_of_proc() == before > 0


def compute() -> None:
    """Keep a core busy for a tenth of a second."""
    until = time.thread_time() + 0.1
    while time.thread_time() < until:
        pass


@pytest.mark.parametrize("beside", [False, True])
def test_processor_time(beside: bool) -> None:
    """A call has that of all threads if it is alone, and beside others that of its own thread."""
    worker = SimpleNamespace()
    began = time.perf_counter()
    usage = Usage(worker)
    other = Usage(worker) if beside else None
    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    cpu = usage.taken()["cpu"]
    assert cpu is not None
    seconds = cpu * (time.perf_counter() - began)
    assert seconds < 0.05 if beside else seconds >= 0.1
    if other is not None:
        other.taken()
