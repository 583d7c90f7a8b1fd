"""The served page by mouse and keyboard, in a real browser, as `daskenv app` serves it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import daskenv_lab
from daskenv_lab import registry
from tests.app.test_page import FLOWS
from tests.server.browser import CANVASES, Watched, blank_page, keep
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def page(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Open the page of a cluster that does not run; end its server and take down the cluster."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "halving.py").write_text(FLOWS)
    command = [sys.executable, "-m", "daskenv_lab.cli", "app", "halving.py", "--name", "browsed"]
    server = subprocess.Popen(
        [*command, "--no-open"], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        told = next(line for line in server.stdout if "http://" in line)
        with blank_page() as watched:
            watched.page.goto(next(word for word in told.split() if word.startswith("http://")))
            yield watched
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=120)
        if registry.read("browsed") is not None:
            daskenv_lab.down("browsed")


def tab(page: Watched, name: str) -> None:
    """Choose a tab."""
    page.page.locator(".bk-tab").get_by_text(name, exact=True).click()


def test_it_starts_runs_and_plots(page: Watched) -> None:
    """A cluster of one worker is started, scaled and used; what is painted follows."""
    shown = page.page
    shown.get_by_text("no cluster has this name; start one").wait_for()
    shown.get_by_label("Threads of a worker").wait_for()
    workers = shown.get_by_label("Workers", exact=True)
    workers.first.fill("1")
    workers.first.press("Tab")
    shown.get_by_text("daskenv_lab.up('local', name='browsed', n_workers=1)").wait_for()
    shown.get_by_role("button", name="Start or reuse").click()
    shown.get_by_text("browsed: 1 worker, on the embedded Gateway").wait_for()

    tab(page, "Cluster")
    before = until(lambda: shown.evaluate(CANVASES))
    scaled = shown.locator(":visible").get_by_label("Workers", exact=True)
    scaled.last.fill("2")
    scaled.last.press("Tab")
    shown.get_by_role("button", name="Scale").click()
    shown.get_by_text("browsed: 2 workers, on the embedded Gateway").wait_for()
    until(lambda: shown.evaluate(CANVASES) not in ([], before))
    keep(shown, "page-cluster", "body")


def test_a_flow_is_run_from_its_form(page: Watched) -> None:
    """A wrong parameter is told; right ones give the result, and a line in the history."""
    shown = page.page
    tab(page, "Run a flow")
    numbers = shown.get_by_label("x (list of integer)")
    numbers.fill("[1, two]")
    numbers.press("Tab")
    shown.get_by_text("neither JSON nor a Python literal").wait_for()
    numbers.fill("[2, 4]")
    numbers.press("Tab")
    shown.get_by_text("daskenv_lab.run(halves, _on='browsed', x=[2, 4])").wait_for()
    shown.get_by_role("button", name="Run", exact=True).click()
    shown.get_by_text("result: 3.0").wait_for()
    tab(page, "Runs")
    shown.get_by_role("cell", name="Completed").first.wait_for()
    keep(shown, "page-runs", "body")


def test_it_is_tuned(page: Watched) -> None:
    """The run of before says what other sizes would take, in a plot and timelines."""
    shown = page.page
    tab(page, "Tune")
    before = until(lambda: shown.evaluate(CANVASES))
    shown.get_by_label("Flow").last.select_option("halves")
    shown.get_by_text("daskenv_lab.tune(name='browsed', flow='halves')").wait_for()
    shown.get_by_role("button", name="Tune", exact=True).click()
    shown.get_by_text("clusters stand out").wait_for()
    shown.get_by_text("As it would run on ").wait_for()
    until(lambda: shown.evaluate(CANVASES) not in ([], before))
    keep(shown, "page-tune", "body")


def test_it_is_exported_and_taken_down(page: Watched) -> None:
    """The preview holds what runs, and a second click takes the cluster down."""
    shown = page.page
    tab(page, "Export")
    shown.get_by_role("button", name="Preview").click()
    shown.get_by_text("DaskGatewayEnvironment(").first.wait_for()
    tab(page, "Cluster")
    shown.get_by_role("button", name="Take down").click()
    shown.get_by_role("button", name="Really? Click again").click()
    shown.get_by_text("no cluster has this name; start one").wait_for()
    assert registry.read("browsed") is None
    assert page.said == []
