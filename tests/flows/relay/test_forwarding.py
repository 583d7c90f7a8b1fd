"""HTTP through the relay: what arrives at the API, what comes back, and what is refused."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from distributed import Client

from daskenv_lab.flows.relay.route import Route

from .conftest import KEY, WireApi, door_of

Ask = Callable[..., Any]


def test_call_arrives_with_the_clients_key(ask: Ask, wire: WireApi) -> None:
    """The API sees the client's key and its own host, and the body and query as they were."""
    status, headers, body = ask(
        "POST",
        "/flows/?limit=5&name=a%20b",
        content=b"\x00\xff binary",
        headers=[("X-Own", "1"), ("Cookie", "c=1")],
    )
    assert (status, body, headers["x-answer"]) == (200, b"\x00\xff binary", "yes")
    method, uri, sent, received = wire.asked[-1]
    assert (method, uri) == ("POST", "/api/flows/?limit=5&name=a%20b")
    assert received == b"\x00\xff binary"
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent["host"] in wire.url
    assert sent["x-own"] == "1"
    assert "cookie" not in sent


@pytest.mark.parametrize("status", [200, 204, 404, 409, 422, 423, 429, 500, 503])
def test_status_comes_back_as_it_is(ask: Ask, wire: WireApi, status: int) -> None:
    """Each status is passed back, once, with what the API says of it."""
    answered, headers, body = ask("GET", f"/{status}")
    assert answered == status
    assert headers.get("retry-after") == ("7" if status == 429 else None)
    assert body == (b"" if status == 204 else b'{"detail": "%d"}' % status)
    assert len([a for a in wire.asked if a[1] == f"/api/{status}"]) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_methods(ask: Ask, wire: WireApi, method: str) -> None:
    """Each method that HTTP APIs use is carried."""
    status, headers, body = ask(method, "/x")
    assert (status, wire.asked[-1][0]) == (200, method)
    assert headers["content-length"] == "5"
    assert body == (b"" if method == "HEAD" else b"empty")


def test_other_methods_are_refused(ask: Ask, wire: WireApi) -> None:
    """TRACE would send the client's key back."""
    assert ask("TRACE", "/x")[0] == 405
    assert not [a for a in wire.asked if a[0] == "TRACE"]


def test_compressed_answer_stays_compressed(ask: Ask) -> None:
    """A compressed answer is carried as it is, and read as it was."""
    status, headers, body = ask("POST", "/x", content=b"a" * 100_000)
    assert (status, body) == (200, b"a" * 100_000)
    assert headers["content-encoding"] == "gzip"
    assert int(headers["content-length"]) < 10_000


def test_large_and_streamed_body(client: Client, route: Route) -> None:
    """50 MB of unknown length go there, in chunks, and come back."""
    written, door = route.written(), door_of

    def call() -> tuple[int, bool]:
        import os

        import httpx

        url, token = door(written)
        headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
        part = os.urandom(1_000_000)
        answer = httpx.post(f"{url}/x", content=iter([part] * 50), headers=headers, timeout=60)
        return answer.status_code, answer.content == part * 50

    assert client.submit(call, pure=False).result(timeout=120) == (200, True)


def test_many_at_once(client: Client, route: Route, wire: WireApi) -> None:
    """100 calls at once from each worker are all answered, each with its own answer."""
    written, door = route.written(), door_of

    def call(worker: int) -> list[str]:
        import asyncio

        import httpx

        async def all_of_them() -> list[str]:
            url, token = await asyncio.to_thread(door, written)
            headers = {"Authorization": f"Bearer {token}"}
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(headers=headers, timeout=60, limits=limits) as http:
                calls = [http.post(f"{url}/x", content=f"{worker}-{i}") for i in range(100)]
                return [answer.text for answer in await asyncio.gather(*calls)]

        return asyncio.run(all_of_them())

    for worker, answers in enumerate(client.gather(client.map(call, [0, 1], pure=False))):
        assert answers == [f"{worker}-{i}" for i in range(100)]


@pytest.mark.parametrize(
    "target",
    [
        "/../secret",
        "/a/../../secret",
        "/%2e%2e/secret",
        "/%252e%252e/secret",
        "/..%2fsecret",
        "/..%5csecret",
        "//127.0.0.1:1/x",
        "/a/./b",
        "/x#y",
        "@127.0.0.1:1/x",
        ":1/x",
        ".evil/x",
    ],
)
def test_paths_outside_the_api_are_refused(
    client: Client, route: Route, wire: WireApi, target: str
) -> None:
    """No spelling of a path leads out of the API, or to another host."""
    status = raw(client, route, target=target)
    assert b" 400 " in status or b" 404 " in status, status
    assert not wire.asked


def test_absolute_address_is_refused(client: Client, route: Route, wire: WireApi) -> None:
    """The forwarder is no proxy."""
    assert b" 404 " in raw(client, route, whole=f"{wire.url}/x")
    assert not wire.asked


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ("Host: evil.example\r\n", b" 200 "),
        ("Authorization: Bearer other\r\n", b" 401 "),
        ("Connection: X-Own\r\nX-Own: 1\r\n", b" 200 "),
        ("X-Own: a\r\n b\r\n", b" 400 "),
        ("X-Own: a\x00b\r\n", b" 400 "),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", b" 501 "),
    ],
)
def test_headers(client: Client, route: Route, wire: WireApi, headers: str, answer: bytes) -> None:
    """Headers that are for one hop, or forged, do not reach the API."""
    assert answer in raw(client, route, headers=headers)
    for _, _, sent, _ in wire.asked:
        assert sent["host"] in wire.url
        assert sent["authorization"] == f"Bearer {KEY}"
        assert "x-own" not in sent


def test_without_token_nothing_is_served(client: Client, route: Route, wire: WireApi) -> None:
    """Another user of the worker's machine gets no further."""
    assert b" 401 " in raw(client, route, token="")
    assert b" 404 " in raw(client, route, whole="/other/api/x")
    assert not wire.asked


def test_redirects(ask: Ask, wire: WireApi) -> None:
    """A redirect within the API is followed by the client; one that leads away is refused."""
    assert ask("POST", "/turn", content=b"kept")[2] == b"kept"
    assert wire.asked[-1][1] == "/api/turned"
    status, _, body = ask("GET", "/away")
    assert status == 400
    assert b"elsewhere" in body


def raw(
    client: Client,
    route: Route,
    *,
    target: str = "/x",
    whole: str | None = None,
    headers: str = "",
    token: str | None = None,
) -> bytes:
    """Send a request byte by byte from inside a task, and give the answer's first line."""
    written, door = route.written(), door_of

    def call() -> bytes:
        url, right = door(written)
        host, _, path = url.removeprefix("http://").partition("/")
        name, _, port = host.partition(":")
        given = right if token is None else token
        lines = f"GET {whole or f'/{path}{target}'} HTTP/1.1\r\n{headers}"
        if "Host:" not in headers:
            lines += "Host: x\r\n"
        if "Authorization:" not in headers:
            lines += f"Authorization: Bearer {given}\r\n"
        with socket.create_connection((name, int(port)), timeout=120) as connection:
            connection.sendall(f"{lines}\r\n".encode())
            return connection.recv(4096).partition(b"\r\n")[0]

    return client.submit(call, pure=False).result(timeout=120)
