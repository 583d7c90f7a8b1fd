"""The whole panel by mouse and keyboard, in a real JupyterLab behind a Hub's kind of address."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import daskenv_lab
from daskenv_lab import registry
from tests.server.browser import Watched, in_theme, keep, notebook
from tests.waiting import until

CELLS = [
    "%load_ext daskenv_lab\nimport time\nfrom prefect import flow, task",
    "@task\ndef rest(x, pause):\n    time.sleep(pause)\n    return x",
    """@flow
def rests(n: int, pause: float = 0.1) -> int:
    return sum(rest.map(range(n), pause=pause).result())""",
    "%daskenv panel --name clicked",
]
TABS = ("Start", "Cluster", "Plots", "Run a flow", "Runs", "Tune", "Export", "Logs")
NAMELESS = """() => [...document.querySelectorAll(
    ".daskenv :is(input, select, button, textarea, a, iframe)")].filter((node) =>
        node.offsetParent && !(node.labels?.length || node.getAttribute("aria-label")
        || node.title || node.textContent.trim())).map((node) => node.outerHTML)"""
"""What a screen reader would have no name for, of what is shown."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def lab(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Open the panel of a cluster that does not run; take down what was started."""
    try:
        with notebook(tmp_path_factory.mktemp("lab"), CELLS) as watched:
            yield watched
    finally:
        if registry.read("clicked") is not None:
            daskenv_lab.down("clicked")


def tab(lab: Watched, name: str) -> Any:
    """Choose a tab, and give what it shows."""
    lab.page.get_by_role("tab", name=name, exact=True).click()
    return lab.page.locator(".daskenv .widget-tab-contents > :visible")


def headline(lab: Watched, told: str) -> Any:
    """Give the panel's first line, once it says something."""
    line = lab.page.locator(".daskenv > .widget-html").get_by_text(told)
    line.wait_for()
    return line


def test_a_cluster_is_started(lab: Watched) -> None:
    """The first line follows, and the panel turns to the cluster."""
    panel = tab(lab, "Start")
    headline(lab, "start one")
    panel.get_by_label("Workers").fill("1")
    panel.get_by_label("Workers").press("Tab")
    panel.get_by_text("daskenv_lab.up('local', name='clicked', n_workers=1)").wait_for()
    panel.get_by_role("button", name="Start or reuse").click()
    headline(lab, "clicked: 1 worker, on the embedded Gateway")
    tab(lab, "Cluster").get_by_text("tls://127.0.0.1").first.wait_for()


def test_a_flow_is_run_from_its_form(lab: Watched) -> None:
    """A wrong parameter is told beside its field; right ones fill the bar."""
    panel = tab(lab, "Run a flow")
    number = panel.get_by_label(re.compile("^n"))
    panel.get_by_text("n is needed").first.wait_for()
    number.fill("many")
    number.press("Tab")
    panel.get_by_text("n: 'many' is no whole number; write it as 3").first.wait_for()
    panel.get_by_role("button", name="Run", exact=True).click()
    panel.get_by_text("fill in the fields first").first.wait_for()
    number.fill("8")
    number.press("Tab")
    panel.get_by_text("daskenv_lab.run(rests, _on='clicked', n=8, pause=0.1)").wait_for()
    panel.get_by_role("button", name="Run", exact=True).click()
    panel.get_by_text("rest: 8 of 8").wait_for()
    panel.get_by_text("result: 28").wait_for()
    tab(lab, "Runs").get_by_role("cell", name="Completed").first.wait_for()


def test_the_plots_move(lab: Watched) -> None:
    """Bokeh paints inside the sandbox, and paints other things once there is work."""
    tab(lab, "Plots")
    lab.page.wait_for_selector(".daskenv-dashboard iframe[src]")
    lab.page.locator(".daskenv-dashboard iframe").scroll_into_view_if_needed()
    at_rest = until(lambda: _at_rest(lab))
    with_work = daskenv_lab.connect("clicked")
    # By name from the standard library: workers cannot import this module.
    futures = with_work.client.map(time.sleep, [0.1] * 300, pure=False)
    until(lambda: lab.painted() not in ([], at_rest))
    with_work.client.cancel(futures)
    with_work.close()


def test_it_grows(lab: Watched) -> None:
    """Two workers are asked for, and two are shown."""
    panel = tab(lab, "Cluster")
    scale = panel.get_by_role("form", name="Scale")
    scale.get_by_label("Workers").fill("2")
    scale.get_by_role("button", name="Scale").click()
    headline(lab, "clicked: 2 workers")
    until(lambda: panel.get_by_text("tls://127.0.0.1").count() == 2)


def test_it_is_tuned(lab: Watched) -> None:
    """A wrong time is told; the run of the form says what other sizes would take."""
    panel = tab(lab, "Tune")
    panel.get_by_label("Flow").select_option("rests")
    deadline = panel.get_by_label("A run may take")
    deadline.fill("soon")
    deadline.press("Tab")
    panel.get_by_text("'soon' is no time; write it as 90, 30m or 2 hours").wait_for()
    deadline.fill("30s")
    deadline.press("Tab")
    panel.get_by_text("tune(name='clicked', flow='rests', deadline=30.0)").wait_for()
    panel.get_by_role("button", name="Tune", exact=True).click()
    panel.get_by_text("clusters stand out").wait_for()
    panel.get_by_role("img", name="As it ran: 8 tasks on 1 workers").wait_for()
    panel.get_by_text("Cheapest within 30 s: ").wait_for()


def test_it_is_exported(lab: Watched) -> None:
    """The preview holds the size that runs now, and the file is where it is said to be."""
    panel = tab(lab, "Export")
    panel.get_by_role("button", name="Preview").click()
    panel.get_by_text("n_workers=2").first.wait_for()
    panel.get_by_role("button", name="Write").click()
    written = panel.get_by_text(re.compile(r"^Wrote .*environment\.py$"))
    written.wait_for()
    path = Path(written.inner_text().removeprefix("Wrote "))
    assert "DaskGatewayEnvironment(" in path.read_text(encoding="utf-8")


def test_everything_has_a_name_and_a_key(lab: Watched) -> None:
    """A screen reader names all controls, arrows and Tab reach them, in light and dark."""
    for name in TABS:
        tab(lab, name)
        assert lab.page.evaluate(NAMELESS) == []
        for theme in ("Light", "Dark"):
            in_theme(lab.page, theme)
            keep(lab.page, f"panel-{name}-{theme}".replace(" ", "-"), ".daskenv")
    tab(lab, "Cluster").get_by_label("Workers").focus()
    lab.page.keyboard.press("Tab")
    assert lab.page.evaluate("document.activeElement.textContent") == "Scale"
    assert lab.errors_of_ours() == []


def test_a_cluster_that_dies_is_told(lab: Watched) -> None:
    """A killed scheduler is one sentence in the first line, with the next step."""
    session = daskenv_lab.connect("clicked")
    pid = session.client.run_on_scheduler(os.getpid)
    session.close()
    os.kill(pid, signal.SIGKILL)
    headline(lab, "daskenv up")


def test_it_is_taken_down(lab: Watched) -> None:
    """The second click does it, also for a cluster that died."""
    down = tab(lab, "Cluster").get_by_role("form", name="Take down")
    down.get_by_role("button", name="Take down").click()
    assert registry.read("clicked") is not None
    down.get_by_role("button", name="Really? Click again").click()
    down.get_by_text("clicked is gone.").wait_for()
    assert registry.read("clicked") is None


def _at_rest(lab: Watched) -> list[str]:
    """Give what is painted, if it stays for two seconds: the page is loaded, and nothing runs."""
    first = lab.painted()
    lab.page.wait_for_timeout(2000)
    return first if lab.painted() == first else []
