"""The dashboard of a rehearsed Fargate cluster in a real JupyterLab: an address of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daskenv_lab import down, rehearsal
from tests.server.browser import Watched, notebook
from tests.waiting import until

CELLS = [
    "%load_ext daskenv_lab",
    "%daskenv up fargate --rehearse --name rehearsed --workers 1",
    "import time, daskenv_lab\nclient = daskenv_lab.current().client",
    "futures = client.map(lambda x: time.sleep(0.3), range(400), pure=False)",
    "%daskenv dashboard task-stream",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def lab(state_dir: Path, tmp_path: Path) -> Iterator[Watched]:
    """Open a notebook whose cluster runs behind the emulated AWS API; take it down after."""
    rehearsal.start(latency="none")
    try:
        with notebook(tmp_path, CELLS) as watched:
            yield watched
            down("rehearsed", timeout=300)
    finally:
        rehearsal.stop(timeout=120)


def test_the_dashboard_of_a_task_lives_in_the_notebook(lab: Watched) -> None:
    """It is painted through Jupyter Server, and changes while tasks run."""
    lab.page.wait_for_selector(".daskenv-dashboard iframe[src]")
    lab.page.locator(".daskenv-dashboard iframe").scroll_into_view_if_needed()
    first = until(lab.painted)
    until(lambda: lab.painted() not in ([], first))
    assert lab.errors_of_ours() == []
