"""What must work while a cell runs and after the kernel died, in a real JupyterLab and browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import daskenv_lab
from daskenv_lab import registry
from tests.server.browser import Watched, notebook
from tests.waiting import until

CELLS = [
    "%load_ext daskenv_lab",
    "%daskenv up local --name busy --workers 1",
    "import time, prefect, daskenv_lab",
    "@prefect.task\ndef lasts():\n    for _ in range(9000):\n        time.sleep(0.1)",
    "@prefect.flow\ndef long():\n    lasts.submit().result()",
    "%daskenv panel --name busy",
    "report = daskenv_lab.run(long, _on='busy')",
    "'ended ' + report.state",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def lab(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Open the panel above a cell that runs a flow without end; take everything down after."""
    try:
        with notebook(tmp_path_factory.mktemp("lab"), CELLS) as watched:
            yield watched
    finally:
        if registry.read("busy") is not None:
            daskenv_lab.down("busy")


def test_the_cluster_is_scaled_while_a_cell_runs(lab: Watched) -> None:
    """The request goes past the kernel, and the first line follows."""
    lab.page.get_by_role("tab", name="Cluster", exact=True).click()
    session = daskenv_lab.connect("busy")
    until(lambda: session.info().tasks.get("processing"), 300)
    scale = lab.page.get_by_role("form", name="Scale")
    scale.get_by_label("Workers").fill("2")
    scale.get_by_text("daskenv_lab.connect('busy').scale(2)").wait_for()
    scale.get_by_role("button", name="Scale").click()
    scale.get_by_role("status").get_by_text("Asked for.").wait_for()
    lab.page.get_by_text("busy: 2 workers").wait_for()
    assert session.info().tasks["processing"] == 1
    session.close()


def test_what_is_no_number_is_refused_beside_the_field(lab: Watched) -> None:
    """Nothing is asked of anybody."""
    scale = lab.page.get_by_role("form", name="Scale")
    for typed in ("", "-1", "1.5"):
        scale.get_by_label("Workers").fill(typed)
        scale.get_by_role("button", name="Scale").press("Enter")
        scale.get_by_text("Workers takes a whole number from 0 upwards").wait_for()
        scale.get_by_label("Workers").fill("2")
        scale.get_by_label("Workers").press("Enter")
        scale.get_by_text("Asked for.").wait_for()


def test_the_flow_run_is_stopped_while_its_cell_runs(lab: Watched) -> None:
    """The cell goes on with a report that says so."""
    assert lab.page.get_by_text("ended Cancelled").count() == 0
    lab.page.get_by_role("tab", name="Run a flow", exact=True).click()
    lab.page.get_by_role("button", name="Stop the flow run").click()
    lab.page.get_by_text("ended Cancelled").wait_for()
    assert lab.errors_of_ours() == []


def test_the_cluster_is_taken_down_after_the_kernel_died(lab: Watched) -> None:
    """The panel's controls outlive the kernel; the second click is the one that counts."""
    lab.page.get_by_role("tab", name="Cluster", exact=True).click()
    lab.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    down = lab.page.get_by_role("form", name="Take down")
    down.get_by_role("button", name="Take down").click()
    assert registry.read("busy") is not None
    down.get_by_role("button", name="Really? Click again").click()
    down.get_by_text("busy is gone.").wait_for()
    assert registry.read("busy") is None
