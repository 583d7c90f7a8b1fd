"""Processes in the background: when they have ended."""

from __future__ import annotations

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
