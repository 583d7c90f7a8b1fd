"""The panel over a Dask Gateway of somebody else's, in a real JupyterLab: options, plots, an end.

Browsers would find the Gateway under a name that this machine does not know: what they see of it
comes through Jupyter Server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from daskenv_lab import DaskGatewayEnvironment, registry
from tests.providers.conftest import PASSWORD, GatewayServer, StartGateway
from tests.server.browser import Watched, notebook
from tests.waiting import until

PUBLIC = "http://gateway.example.org"
SETUP = """%load_ext daskenv_lab
import dask
dask.config.set({{"daskenv.profile": "theirs", "daskenv.profiles.theirs": {profile!r}}})"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(start_gateway: StartGateway) -> GatewayServer:
    """Give a Gateway that a test may stop."""
    return start_gateway()


@pytest.fixture(scope="module")
def lab(
    server: GatewayServer, state_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    """Open the panel with the Gateway's profile; the password is a process variable's."""
    profile = {
        "kind": "gateway",
        "gateway_address": server.address,
        "public_address": PUBLIC,
        "auth": {"type": "basic", "username": "ada", "password": {"$secret": "THEIR_PASSWORD"}},
    }
    cells = [SETUP.format(profile=profile), "%daskenv panel --name theirs"]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("THEIR_PASSWORD", PASSWORD)
            with notebook(tmp_path_factory.mktemp("lab"), cells) as watched:
                yield watched
    finally:
        registry.forget("theirs")


def tab(lab: Watched, name: str) -> Any:
    """Choose a tab, and give what it shows."""
    lab.page.get_by_role("tab", name=name, exact=True).click()
    return lab.page.locator(".daskenv .widget-tab-contents > :visible")


def test_the_gateways_own_options_are_fields(lab: Watched) -> None:
    """What the Gateway offers can be chosen, within its bounds, and stands in the call."""
    panel = tab(lab, "Start")
    panel.get_by_label("image").wait_for()
    cores = panel.get_by_label("worker_cores")
    assert cores.input_value() == "1"
    cores.fill("7")
    cores.press("Tab")
    panel.get_by_text("worker_cores=2").wait_for()
    workers = panel.get_by_label("Workers")
    workers.fill("1")
    workers.press("Tab")
    call = "daskenv_lab.up('theirs', name='theirs', worker_cores=2, n_workers=1)"
    panel.get_by_text(call).wait_for()
    panel.get_by_role("button", name="Start or reuse").click()
    line = lab.page.locator(".daskenv > .widget-html")
    line.get_by_text("theirs: 1 worker, on the Gateway at http://127.0.0.1").wait_for()
    environment = registry.known("theirs").environment
    assert isinstance(environment, DaskGatewayEnvironment)
    assert environment.cluster_options["worker_cores"] == 2


def test_its_dashboard_is_shown_though_the_browser_cannot_reach_it(lab: Watched) -> None:
    """Jupyter Server fetches it at the address at which the Gateway was asked."""
    tab(lab, "Plots")
    lab.page.wait_for_selector(".daskenv-dashboard iframe[src]")
    lab.page.locator(".daskenv-dashboard iframe").scroll_into_view_if_needed()
    until(lab.painted)
    assert lab.errors_of_ours() == []


def test_a_stopped_gateway_is_told(lab: Watched, server: GatewayServer) -> None:
    """What is asked of it ends in one sentence under the control, and the panel lives on."""
    server.kill()
    panel = tab(lab, "Cluster")
    scale = panel.get_by_role("form", name="Scale")
    scale.get_by_label("Workers").fill("2")
    scale.get_by_role("button", name="Scale").click()
    # Which says, if it fails, what is told instead.
    expect(scale.get_by_role("status")).to_contain_text(server.address, timeout=120_000)
    panel = tab(lab, "Start")
    panel.get_by_label("Profile or kind").select_option("local")
    panel.get_by_label("Threads of a worker").wait_for()
    panel.get_by_label("Profile or kind").select_option("theirs")
    panel.locator(".failed").get_by_text(server.address).first.wait_for()
