"""A stand-in for the Prefect API on the wire, and calls made from inside tasks."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster, get_worker
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, temporary_settings
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from daskenv_lab.flows.relay.onworker import settings_on
from daskenv_lab.flows.relay.route import Route, route_for

KEY = "pnu_the-key-that-stays-at-home"


@dataclass
class WireApi:
    """An HTTP server that tells what reached it, and answers as its path says."""

    url: str = ""
    mark: str = "mark"
    """The id by which it is known; empty for one that is another server each time."""

    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    elsewhere: str = "http://127.0.0.1:1/"
    hung_up: int = 0


def _handler(api: WireApi) -> type[RequestHandler]:
    class Handler(RequestHandler):
        def on_connection_close(self) -> None:
            api.hung_up += 1

        SUPPORTED_METHODS = (*RequestHandler.SUPPORTED_METHODS, "TRACE")

        async def prepare(self) -> None:
            request = self.request
            headers = {name.lower(): value for name, value in request.headers.get_all()}
            api.asked.append((request.method or "", request.uri or "", headers, request.body))
            if request.path == "/api/block_types/slug/secret":
                self.finish({"id": api.mark or uuid.uuid4().hex})
                return
            word = request.path.removeprefix("/api/")
            self.set_header("X-Answer", "yes")
            if word.isdigit():
                self.set_status(int(word))
                if word == "429":
                    self.set_header("Retry-After", "7")
                if word != "204":
                    self.write({"detail": word})
            elif word == "slow":
                await asyncio.sleep(30)
            elif word == "away":
                self.redirect(api.elsewhere)
            elif word == "turn":
                self.redirect("/api/turned", status=307)
            else:
                self.write(request.body or b"empty")
            self.finish()

    return Handler


@pytest.fixture
def wire() -> Iterator[WireApi]:
    """Give a server in a thread of its own."""
    api = WireApi()
    ready, loops = threading.Event(), []

    async def serve() -> None:
        settings: dict[str, Any] = {"compress_response": True}
        server = HTTPServer(Application([(r".*", _handler(api))], **settings), max_body_size=2**27)
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        api.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/api"
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(120)
    yield api
    loop, stop = loops[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(120)


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """Give a Dask client of the tests' cluster."""
    with Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture
def relayed() -> Iterator[None]:
    """Let everything be relayed."""
    with dask.config.set({"daskenv.prefect.route": "relay"}):
        yield


def door_of(written: dict[str, Any]) -> tuple[str, str]:
    """Give the address and token of this worker's forwarder; it runs in a task."""
    found = settings_on(get_worker(), written)
    return found[PREFECT_API_URL], found[PREFECT_API_KEY]


door_of.__module__ = "__main__"


@pytest.fixture
def route(wire: WireApi, client: Client, relayed: None) -> Route:
    """Give the route to the stand-in, whose key is `KEY`."""
    with temporary_settings({PREFECT_API_URL: wire.url, PREFECT_API_KEY: KEY}):
        return route_for(client)


@pytest.fixture
def ask(client: Client, route: Route) -> Callable[..., Any]:
    """Give a function that makes one HTTP call from inside a task, through the relay.

    It returns the status, the headers and the body.
    """

    def ask(method: str, path: str, **options: Any) -> tuple[int, dict[str, str], bytes]:
        written, door = route.written(), door_of

        def call() -> tuple[int, dict[str, str], bytes]:
            import httpx

            url, token = door(written)
            headers = [("Authorization", f"Bearer {token}"), *options.pop("headers", ())]
            answer = httpx.request(method, url + path, headers=headers, timeout=60, **options)
            return answer.status_code, dict(answer.headers), answer.content

        return client.submit(call, pure=False).result(timeout=120)

    return ask
