"""The quickstart as a newcomer goes through it: in a real JupyterLab, and then in the panel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

import daskenv_lab
from daskenv_lab import registry
from tests.server.browser import Watched, notebook

QUICKSTART = Path(__file__).parents[2] / "notebooks" / "00_quickstart.ipynb"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def lab(state_dir: Path, tmp_path: Path) -> Iterator[Watched]:
    """Run all cells of the quickstart, the last of which takes its cluster down, and a panel's."""
    cells = [cell.source for cell in nbformat.read(QUICKSTART, 4).cells if cell.cell_type == "code"]
    try:
        with notebook(tmp_path, [*cells, "%daskenv panel --name dev"]) as watched:
            yield watched
    finally:
        if registry.read("dev") is not None:
            daskenv_lab.down("dev")


def test_all_cells_run_and_the_panel_goes_on(lab: Watched) -> None:
    """No cell fails; the panel starts a cluster again, and runs the flow that a cell defined."""
    page = lab.page
    line = page.locator(".daskenv > .widget-html")
    line.get_by_text("dev: no cluster has this name; start one").wait_for()
    failed = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']"
    assert page.locator(failed).all_inner_texts() == []
    shown = page.locator(".daskenv .widget-tab-contents > :visible")
    shown.get_by_role("button", name="Start or reuse").click()
    line.get_by_text("dev: 2 workers, on the embedded Gateway").wait_for()
    page.get_by_role("tab", name="Run a flow", exact=True).click()
    numbers = shown.get_by_label("x (list of integer)")
    numbers.fill("[1, 2, 3]")
    numbers.press("Tab")
    shown.get_by_role("button", name="Run", exact=True).click()
    shown.get_by_text("times_two: 3 of 3").wait_for()
    shown.get_by_text("result: 12").wait_for()
    assert lab.errors_of_ours() == []
