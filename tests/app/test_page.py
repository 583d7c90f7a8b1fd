"""The page over a real cluster, and who may open it."""

from __future__ import annotations

import html
import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
import pytest

import daskenv_lab
from daskenv_lab import registry
from daskenv_lab.app.page import Page
from daskenv_lab.app.serve import serve
from daskenv_lab.errors import FlowNotFound, ProviderError
from daskenv_lab.flows.loading import flows_at
from daskenv_lab.view.lab import lab_of
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FLOWS = """
from prefect import flow, task

@task
def half(x: int) -> float:
    return x / 2

@flow
def halves(x: list[int]) -> float:
    return sum(half.map(x).result())
"""


@pytest.fixture
def page(state_dir: Path, tmp_path: Path) -> Iterator[Page]:
    """Give a page for a name that nobody uses, with the flow of a file."""
    (tmp_path / "halving.py").write_text(FLOWS)
    with dask.config.set({"daskenv.panel.interval": "200 ms"}):
        lab = lab_of("paged")
        made = Page(lab, flows_at(str(tmp_path / "halving.py")))
        yield made
        made.close()
    if registry.read("paged") is not None:
        daskenv_lab.down("paged")


def shown(pane: Any) -> str:
    """Give the text of a pane."""
    return html.unescape(re.sub("<[^>]*>", " ", pane.object or ""))


def seen(page: Page, pane: Any, words: str) -> bool:
    """Look as the page does each second, and tell whether it shows some words."""
    page.refresh()
    return words in shown(pane)


def test_the_page_starts_runs_and_plots(page: Page) -> None:
    """What the notebook's panel does, by the same view model, and what only the page plots."""
    until(lambda: seen(page, page.headline, "start one"))
    page.start.workers.value = 1
    assert "up('local', name='paged', n_workers=1)" in shown(page.start.button._code)
    page.start.button.button.clicks += 1
    until(lambda: seen(page, page.headline, "1 worker, on the embedded Gateway"))
    until(lambda: page.plots._trail.data["workers"][-1:] == [1] or page.refresh())
    (field, problem) = page.form._fields["x"]
    field.value = "[1, two]"
    assert "neither JSON nor a Python literal" in shown(problem)
    field.value = "[2, 4]"
    assert "daskenv_lab.run(halves, _on='paged', x=[2, 4])" in shown(page.form.button._code)
    page.form.button.button.clicks += 1
    until(lambda: seen(page, page.form.button._said, "result: 3.0"), 300)
    assert "half: 2 of 2" in shown(page.form._progress)
    until(lambda: seen(page, page.runs, "halves"))
    assert page.plots._runs.data["flow"] == ["halves"]
    assert page.plots._tasks.data["task"] == ["half"]
    page.export.button.clicks += 1
    until(lambda: seen(page, page.text, "DaskGatewayEnvironment"))
    page.down.button.clicks += 1
    assert page.down.button.name == "Really? Click again"
    page.down.button.clicks += 1
    until(lambda: seen(page, page.headline, "start one"))


def answer(address: str, path: str, cookie: str = "") -> http.client.HTTPResponse:
    """Ask a server for a path."""
    connection = http.client.HTTPConnection(address, timeout=120)
    connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
    return connection.getresponse()


def test_only_who_has_the_token_is_let_in(state_dir: Path) -> None:
    """Nobody without it, or with another, or with a cookie of their own making."""
    told: list[str] = []
    address = serve("paged", show=False, wait=False, say=told.append)
    assert address in told[0]
    place = urlsplit(address)
    for path in ("/", "/?token=", "/?token=wrong"):
        assert answer(place.netloc, path).status == 302
    for path in ("/autoload.js?bokeh-autoload-element=x", "/ws", "/metadata"):
        refused = answer(place.netloc, path)
        assert refused.status != 200
        assert b"session" not in refused.read().lower()
    assert answer(place.netloc, "/", "daskenv=here").status == 302
    missing = answer(place.netloc, "/login")
    assert missing.status == 403
    assert b"holds a token" in missing.read()
    let_in = answer(place.netloc, f"/?{place.query}")
    assert let_in.status == 200
    cookie = let_in.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert answer(place.netloc, "/", cookie.partition(";")[0]).status == 200
    with pytest.raises(ProviderError, match=f"port {place.port}"):
        serve("paged", port=place.port or 0, show=False, wait=False, say=told.append)


def test_a_file_without_flows_is_told(tmp_path: Path) -> None:
    """Before anything is served."""
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(FlowNotFound, match="has no flow"):
        serve("paged", [str(tmp_path / "empty.py")], show=False)
