"""Helpers for sessions: the embedded Gateway, and processes that play other kernels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

import daskenv_lab
from daskenv_lab import inventory, registry


@pytest.fixture
def kernel() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start Python processes that run some code, as other kernels would."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import daskenv_lab\n{code}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=120)


@pytest.fixture(autouse=True)
def no_clusters_left() -> Iterator[None]:
    """Destroy what a test leaves, so that each begins with no cluster."""
    yield
    for name in registry.names():
        if registry.read(name) is not None:
            inventory.down(name)
    inventory.reap(idle=0)
    session = daskenv_lab.current()
    if session is not None:
        session.close()
