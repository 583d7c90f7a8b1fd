"""Background processes: how they are asked to end."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

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
