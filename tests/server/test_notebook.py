"""The widget in a real JupyterLab, in a real browser, over https and under a base URL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daskenv_lab.lifecycle import up
from tests.server.browser import CANVASES, Watched, in_theme, keep, notebook
from tests.waiting import until

CELLS = [
    "%load_ext daskenv_lab",
    "%daskenv up local --name watched --workers 1",
    "import time, daskenv_lab\nclient = daskenv_lab.current().client",
    "futures = client.map(lambda x: time.sleep(0.3), range(400), pure=False)",
    "%daskenv dashboard task-stream",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def lab(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Open a notebook in JupyterLab and run it; take everything down after."""
    with notebook(tmp_path_factory.mktemp("lab"), CELLS) as watched:
        try:
            yield watched
        finally:
            up("local", name="watched").down(timeout=120)


def test_the_dashboard_lives_in_the_notebook(lab: Watched) -> None:
    """The task stream is painted inside the sandbox, and changes while tasks run."""
    lab.page.wait_for_selector(".daskenv-dashboard iframe[src]")
    frame = lab.page.locator(".daskenv-dashboard iframe")
    assert frame.get_attribute("sandbox") == "allow-scripts"
    assert frame.get_attribute("title") == "Dask dashboard of watched: task-stream"
    # A browser does not paint a frame of another origin that nobody sees.
    frame.scroll_into_view_if_needed()
    first = until(lab.painted)
    until(lambda: lab.painted() not in ([], first))
    for theme in ("Light", "Dark"):
        in_theme(lab.page, theme)
        _keep(lab.page, theme)
    assert lab.errors_of_ours() == []


def test_the_pane_is_chosen_by_keyboard(lab: Watched) -> None:
    """The controls have labels, and a chosen pane has a ticket of its own."""
    before = lab.page.locator(".daskenv-dashboard iframe").get_attribute("src")
    ours = lab.page.locator(".daskenv-dashboard")
    ours.get_by_label("Pane", exact=True).select_option("progress")
    until(lambda: _source(lab).endswith("/individual-progress"))
    assert _source(lab).split("/")[-2] != str(before).split("/")[-2]
    until(lab.painted)
    lab.page.get_by_role("button", name="Reload").focus()
    former = _source(lab)
    lab.page.keyboard.press("Enter")
    until(lambda: _source(lab) not in (former, ""))
    assert lab.errors_of_ours() == []


def test_it_opens_in_a_tab(lab: Watched) -> None:
    """The tab shows the same pane, and is in a sandbox too: it has no origin."""
    with lab.page.context.expect_page() as opened:
        lab.page.get_by_role("link", name="Open in a tab").click()
    tab = opened.value
    tab.wait_for_load_state()
    assert tab.url.endswith("/individual-progress")
    assert tab.evaluate("window.origin") == "null"
    until(lambda: tab.evaluate(CANVASES))
    reached = "() => fetch(location.pathname.split('daskenv')[0] + 'api/contents')"
    assert tab.evaluate(f"{reached}.then((a) => a.status, () => 'refused')") in (403, "refused")
    tab.close()


def test_without_the_extension_the_link_is_shown(lab: Watched) -> None:
    """A server that does not know our addresses gives a page of its own, and the widget why."""
    lab.page.route("**/daskenv/api/**", lambda asked: asked.fulfill(status=404, body="<html>"))
    lab.page.get_by_role("button", name="Reload").click()
    lab.page.get_by_text("does not have the extension of daskenv_lab").wait_for()
    link = lab.page.locator(".daskenv-dashboard p a")
    assert str(link.get_attribute("href")).startswith("http://127.0.0.1:")
    lab.page.unroute("**/daskenv/api/**")


def test_a_cluster_that_is_gone_is_told(lab: Watched) -> None:
    """The server's sentence takes the place of the plot, whether a kernel runs or not."""
    up("local", name="watched").down(timeout=120)
    lab.page.get_by_role("button", name="Reload").click()
    lab.page.get_by_text("no cluster is named 'watched'").wait_for()
    # Its own address would lead nowhere either.
    assert lab.page.locator(".daskenv-dashboard p a").count() == 0
    _keep(lab.page, "gone")
    up("local", name="watched", n_workers=0)


def _source(lab: Watched) -> str:
    return lab.page.locator(".daskenv-dashboard iframe").get_attribute("src") or ""


def _keep(page: Any, name: str) -> None:
    keep(page, f"dashboard-{name}", ".daskenv-dashboard")
