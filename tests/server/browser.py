"""A notebook in a real JupyterLab and a real browser, over https and under a base URL."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.server.jupyter import BASE, TOKEN, serving
from tests.waiting import until

NO_FRAMES = {"Content-Security-Policy": "frame-ancestors 'none'"}
CHROMIUM = shutil.which("chromium")
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


@contextlib.contextmanager
def notebook(folder: Path, cells: Sequence[str]) -> Iterator[Watched]:
    """Open a notebook of these cells in JupyterLab and run it; end the browser and Lab after."""
    made = [nbformat.v4.new_code_cell(code) for code in cells]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    written = nbformat.v4.new_notebook(cells=made, metadata=kernel)
    nbformat.write(written, folder / "watch.ipynb")
    _self_signed(folder)
    arguments = (
        "--LabApp.expose_app_in_browser=True",
        "--ServerApp.allow_remote_access=True",
        f"--ServerApp.certfile={folder / 'cert.pem'}",
        f"--ServerApp.keyfile={folder / 'key.pem'}",
        "--ServerApp.jpserver_extensions={'panel.io.jupyter_server_extension': False}",
        # As JupyterHub has it: nobody may show Jupyter's pages in a frame.
        f"--ServerApp.tornado_settings={ {'headers': NO_FRAMES}!r}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    )
    with serving(folder, *arguments, app="lab") as server, blank_page() as watched:
        page = watched.page
        page.goto(f"https://jupyter.test:{server.port}{BASE}lab/tree/watch.ipynb?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook")
        until(lambda: page.evaluate("!!window.jupyterapp?.shell.currentWidget?.sessionContext"))
        page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.ready.then(() => 1)")
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells'), 1")
        yield watched


@contextlib.contextmanager
def blank_page() -> Iterator[Watched]:
    """Start a browser with an empty page, and end it after."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                # A name, and not an address that the browser trusts without https.
                "--host-resolver-rules=MAP jupyter.test 127.0.0.1",
            ],
        )
        page = browser.new_page(ignore_https_errors=True, viewport={"width": 1200, "height": 900})
        page.set_default_timeout(240_000)
        watched = Watched(page)
        page.on(
            "console",
            lambda m: watched.said.append(f"{m.text} {m.location}") if m.type == "error" else None,
        )
        page.on("pageerror", lambda error: watched.said.append(f"{error} {error.stack}"))
        try:
            yield watched
        finally:
            browser.close()


def in_theme(page: Any, theme: str) -> None:
    """Change how JupyterLab looks, to `Light` or `Dark`."""
    page.evaluate(
        "(name) => void window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})",
        f"JupyterLab {theme}",
    )
    light = "true" if theme == "Light" else "false"
    page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")


def keep(page: Any, name: str, seen: str) -> None:
    """Keep a picture for people of what a selector finds, if a folder for pictures is named."""
    if folder := os.environ.get("DASKENV_TEST_PICTURES"):
        shown = page.locator(seen).first
        shown.scroll_into_view_if_needed()
        page.wait_for_timeout(3000)
        shown.screenshot(path=str(Path(folder) / f"{name.lower()}.png"))


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
