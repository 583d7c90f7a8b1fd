"""Processes in the background: how they are asked to end, and when they have ended."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

from daskenv_lab.background import end_all

NEVER_WAITS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""

ENDS = """
import os, sys, threading
from daskenv_lab.background import end_on_signal

lock = threading.Lock()

class Guarded(threading.Event):
    def set(self):
        with lock:
            super().set()

end = Guarded()
end_on_signal(end)
with lock:
    os.kill(os.getpid(), int(sys.argv[1]))
print(end.wait(30))
"""


@pytest.mark.timeout(120)
def test_a_process_that_nobody_reaps_has_ended() -> None:
    """Its parent, such as a container's first process, never asks; it is not waited for."""
    command = [sys.executable, "-c", NEVER_WAITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        try:
            end_all([child], patience=3600)
            assert child.status() == psutil.STATUS_ZOMBIE
        finally:
            parent.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_while_the_lock_of_the_event_is_taken(number: int) -> None:
    """The main thread has it for a moment each time it begins and ends to wait."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS, str(int(number))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr
