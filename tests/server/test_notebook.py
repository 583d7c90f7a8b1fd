"""The widget in a real JupyterLab, in a real browser, over https and under a base URL."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from daskenv_lab.lifecycle import up
from tests.server.jupyter import BASE, TOKEN, serving
from tests.waiting import until

CHROMIUM = shutil.which("chromium")
CELLS = [
    "%load_ext daskenv_lab",
    "%daskenv up local --name watched --workers 1",
    "import time, daskenv_lab\nclient = daskenv_lab.current().client",
    "futures = client.map(lambda x: time.sleep(0.3), range(400), pure=False)",
    "%daskenv dashboard task-stream",
]
CANVASES = """() => {
    const found = [];
    const look = (root) => root.querySelectorAll("*").forEach((node) => {
        if (node instanceof HTMLCanvasElement && node.width > 99) found.push(node.toDataURL());
        if (node.shadowRoot) look(node.shadowRoot);
    });
    look(document);
    return found;
}"""
"""What is painted in a page, also inside the shadows where Bokeh paints."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@dataclass
class Watched:
    """A page of JupyterLab, and all that its console said."""

    page: Any
    said: list[str] = field(default_factory=list)

    def errors_of_ours(self) -> list[str]:
        """Give the errors that come from our widget or from our addresses."""
        return [line for line in self.said if "daskenv" in line]

    def painted(self) -> list[str]:
        """Give what is painted in the frame of the dashboard; nothing while it loads a page."""
        from playwright.sync_api import Error

        # Only while Playwright itself waits does it learn of frames that load.
        self.page.wait_for_timeout(100)
        frames = [f for f in self.page.frames if "daskenv/dashboard" in f.url]
        try:
            return list(frames[0].evaluate(CANVASES)) if frames else []
        except Error:
            return []


@pytest.fixture(scope="module")
def lab(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Open a notebook in JupyterLab and run it; take everything down after."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_code_cell(code) for code in CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, folder / "watch.ipynb")
    _self_signed(folder)
    arguments = (
        "--LabApp.expose_app_in_browser=True",
        "--ServerApp.allow_remote_access=True",
        f"--ServerApp.certfile={folder / 'cert.pem'}",
        f"--ServerApp.keyfile={folder / 'key.pem'}",
        "--ServerApp.jpserver_extensions={'panel.io.jupyter_server_extension': False}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    )
    with (
        serving(folder, *arguments, app="lab") as server,
        sync_playwright() as browsers,
    ):
        browser = browsers.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                # A name, and not an address that the browser trusts without https.
                "--host-resolver-rules=MAP jupyter.test 127.0.0.1",
            ],
        )
        page = browser.new_page(ignore_https_errors=True, viewport={"width": 1200, "height": 900})
        page.set_default_timeout(120_000)
        watched = Watched(page)
        page.on(
            "console",
            lambda m: watched.said.append(f"{m.text} {m.location}") if m.type == "error" else None,
        )
        page.on("pageerror", lambda error: watched.said.append(f"{error} {error.stack}"))
        page.goto(f"https://jupyter.test:{server.port}{BASE}lab/tree/watch.ipynb?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook")
        until(lambda: page.evaluate("!!window.jupyterapp?.shell.currentWidget?.sessionContext"))
        page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.ready.then(() => 1)")
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells'), 1")
        try:
            yield watched
        finally:
            browser.close()
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
        _in_theme(lab.page, theme)
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


def _in_theme(page: Any, theme: str) -> None:
    page.evaluate(
        "(name) => void window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})",
        f"JupyterLab {theme}",
    )
    light = "true" if theme == "Light" else "false"
    page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")


def _keep(page: Any, name: str) -> None:
    """Keep a picture for people, if a folder for them is named."""
    if folder := os.environ.get("DASKENV_TEST_PICTURES"):
        page.locator(".daskenv-dashboard").scroll_into_view_if_needed()
        page.wait_for_timeout(3000)
        page.screenshot(path=str(Path(folder) / f"dashboard-{name.lower()}.png"))


def _self_signed(folder: Path) -> None:
    """Make a certificate that no browser trusts, for https."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
