"""The demonstration, and JupyterLab on the quickstart notebook."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from daskenv_lab import demo, registry


@pytest.mark.slow
def test_the_demonstration_plays(capsys: pytest.CaptureFixture[str]) -> None:
    """Both flows give what they should, the cluster is reused, and none stays."""
    demo.play(lambda _: None, parts=2)
    shown = capsys.readouterr().out
    assert "12  (4 Completed" in shown
    assert "380  (21 Completed" in shown
    assert "'stations': 100.0" in shown
    assert "Reusing demo: 3 workers" in shown
    assert registry.read("demo") is None


@pytest.mark.slow
def test_lab_opens_the_quickstart_notebook(tmp_path: Path) -> None:
    """`daskenv lab` copies the notebook here, once, and serves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys; from daskenv_lab.demo import open_lab;"
        f"sys.exit(open_lab(('--no-browser', '--allow-root', '--port={port}', "
        "'--ServerApp.token=t', '--ServerApp.ip=127.0.0.1')))"
    )
    lab = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}/api/contents/00_quickstart.ipynb?content=0&token=t"
        assert _answers(url, timeout=60)
        assert (tmp_path / "00_quickstart.ipynb").exists()
    finally:
        os.killpg(lab.pid, 15)
        lab.wait(120)


def _answers(url: str, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    return False
