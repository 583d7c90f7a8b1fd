"""Bokeh's websockets through the proxy, and those of a dashboard that is not Bokeh's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import re

import pytest
from distributed import LocalCluster
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from daskenv_lab import registry
from tests.server.conftest import Trap, record
from tests.server.jupyter import BASE, TOKEN, Jupyter


async def _connect(
    jupyter: Jupyter, path: str, *protocols: str, origin: str = "null", **headers: str
) -> WebSocketClientConnection:
    request = HTTPRequest(
        f"ws://127.0.0.1:{jupyter.port}{path}",
        headers={"Origin": origin, **headers},
        connect_timeout=120,
        request_timeout=120,
    )
    return await websocket_connect(request, subprotocols=list(protocols) or None)


async def _said(page: WebSocketClientConnection) -> str | bytes | None:
    return await asyncio.wait_for(page.read_message(), 120)


def _bokeh(jupyter: Jupyter, path: str) -> tuple[str, str]:
    """Open a page as a browser does; gives the address of its websocket, and its token."""
    page = jupyter.raw("GET", path).body.decode()
    found = re.search(r'"token":"([^"]+)"', page)
    assert found, page[:2000]
    return f"{path}/ws", found[1]


async def _pull(page: WebSocketClientConnection) -> dict[str, object]:
    """Ask Bokeh for the whole document, as its script does first."""
    await page.write_message(json.dumps({"msgid": "1", "msgtype": "PULL-DOC-REQ"}))
    await page.write_message("{}")
    await page.write_message("{}")
    while True:
        said = await _said(page)
        assert said is not None
        told = json.loads(said)
        if "doc" in told:
            return dict(told)


async def _open(jupyter: Jupyter, path: str) -> WebSocketClientConnection:
    address, token = _bokeh(jupyter, path)
    page = await _connect(jupyter, address, "bokeh", token)
    assert page.selected_subprotocol == "bokeh"
    assert json.loads(str(await _said(page)))["msgtype"] == "ACK"
    return page


@pytest.mark.parametrize("pane", ["status", "task-stream", "progress", "workers-memory"])
def test_bokeh_talks_through_the_proxy(jupyter: Jupyter, gateway_cluster: str, pane: str) -> None:
    """A page of a Gateway's cluster is connected, and gets its plots."""

    async def talk() -> None:
        page = await _open(jupyter, jupyter.open(gateway_cluster, pane))
        assert (await _pull(page))["doc"]
        page.close()

    before = jupyter.last_activity()
    asyncio.run(talk())
    assert jupyter.last_activity() == before


def test_a_page_that_was_opened_in_time_connects_late(
    jupyter: Jupyter, hasty_jupyter: Jupyter, plain_cluster: LocalCluster
) -> None:
    """A ticket that has just run out still connects the page that it opened."""
    _, token = _bokeh(jupyter, jupyter.open("plain"))
    late = hasty_jupyter.open("plain")
    assert hasty_jupyter.raw("GET", late).status == 403

    async def talk() -> None:
        page = await _connect(hasty_jupyter, f"{late}/ws", "bokeh", token)
        assert json.loads(str(await _said(page)))["msgtype"] == "ACK"
        page.close()

    asyncio.run(talk())


@pytest.mark.parametrize("origin", ["http://elsewhere.test", "http://127.0.0.1", "https://null"])
def test_another_page_cannot_connect(jupyter: Jupyter, trap: Trap, origin: str) -> None:
    """Only pages in a sandbox may, which have no origin."""
    path = jupyter.open(trap.name).replace("status", "ws")
    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(_connect(jupyter, path, origin=origin))


def test_a_websocket_needs_a_ticket(jupyter: Jupyter, hasty_jupyter: Jupyter, trap: Trap) -> None:
    """Forged and foreign tickets, and paths that climb, connect nobody."""
    foreign, own = hasty_jupyter.open(trap.name), jupyter.open(trap.name)
    before = len(trap.server.heard)
    for path in (foreign, f"{BASE}daskenv/dashboard/x.y/status", own.replace("status", "%2e%2e/x")):
        with pytest.raises(HTTPClientError, match=r"403|502"):
            asyncio.run(_connect(jupyter, path))
    assert len(trap.server.heard) == before


def test_nothing_of_jupyters_is_sent_on(jupyter: Jupyter, trap: Trap) -> None:
    """The dashboard sees its own origin, and neither cookies nor tokens."""
    path = jupyter.open(trap.name).replace("status", "ws")

    async def talk() -> str | bytes | None:
        page = await _connect(
            jupyter,
            f"{path}?token={TOKEN}&a=1",
            Cookie="username=secret",
            Authorization=f"token {TOKEN}",
        )
        assert "Set-Cookie" not in page.headers
        said = await _said(page)
        page.close()
        return said

    assert asyncio.run(talk()) == "hi"
    head = trap.server.head_of("/ws?a=1")
    assert f"Origin: http://127.0.0.1:{trap.server.port}" in head
    assert "secret" not in head
    assert TOKEN not in head
    assert "cookie" not in head.lower()


@pytest.mark.parametrize("page", ["garbage", "status", "away", "inside", "silent"])
def test_what_is_no_websocket_is_refused(jupyter: Jupyter, trap: Trap, page: str) -> None:
    """Whatever else answers there, and where a redirect leads, the browser is told no."""
    path = jupyter.open(trap.name).replace("status", page)
    with pytest.raises(HTTPClientError, match="502"):
        asyncio.run(_connect(jupyter, path))
    assert trap.server.head_of(f"/{page}")


def test_a_websocket_ends_with_its_cluster(jupyter: Jupyter, plain_cluster: LocalCluster) -> None:
    """The page learns at once that there is nothing more to see."""

    async def talk() -> None:
        page = await _open(jupyter, jupyter.open("plain"))
        await asyncio.to_thread(plain_cluster.close, 120)
        while await _said(page) is not None:
            pass

    asyncio.run(talk())


def test_a_websocket_ends_with_its_record(jupyter: Jupyter, trap: Trap) -> None:
    """A cluster that is not this user's any more is not shown on."""
    record("borrowed", trap.cluster.scheduler_address)

    async def talk() -> None:
        page = await _connect(jupyter, jupyter.open("borrowed").replace("status", "ws"))
        assert await _said(page) == "hi"
        registry.forget("borrowed")
        assert await _said(page) is None

    asyncio.run(talk())


def test_many_pages_at_once(jupyter: Jupyter, gateway_cluster: str) -> None:
    """Two notebooks, and a page's own requests, do not wait for one another."""

    def one(number: int) -> bool:
        async def talk() -> None:
            pane = ("status", "cpu", "progress")[number % 3]
            page = await _open(jupyter, jupyter.open(gateway_cluster, pane))
            assert (await _pull(page))["doc"]
            page.close()

        asyncio.run(talk())
        return True

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert all(pool.map(one, range(6)))
