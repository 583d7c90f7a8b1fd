"""What may answer at a dashboard's address: a server that wants to harm whoever asks it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

ELSEWHERE = "http://elsewhere.test/stolen"

_HEADS = (
    "Set-Cookie: session=mine; Path=/\r\n"
    "Access-Control-Allow-Origin: *\r\n"
    "Access-Control-Allow-Credentials: true\r\n"
    "Content-Security-Policy: sandbox allow-scripts allow-same-origin\r\n"
    f"Refresh: 0; url={ELSEWHERE}\r\n"
    f"Link: <{ELSEWHERE}>; rel=preload\r\n"
    'Clear-Site-Data: "*"\r\n'
    'WWW-Authenticate: Basic realm="Jupyter"\r\n'
    "Service-Worker-Allowed: /\r\n"
    "X-Custom: 1\r\n"
)

_REDIRECTS = {
    "/away": ELSEWHERE,
    "/away-host": "//elsewhere.test/status",
    "/away-back": "\\\\elsewhere.test\\status",
    "/away-script": "javascript:alert(1)",
    "/away-at": "http://127.0.0.1@elsewhere.test/",
    "/away-port": "http://127.0.0.1:1/status",
    "/away-none": "",
    "/away-up": "/%2e%2e/status",
    "/inside": "status?a=1",
}


@dataclass
class Hostile:
    """A server on loopback, and all it was told."""

    port: int = 0
    heard: list[str] = field(default_factory=list)
    """The heads of the requests, as they came."""

    def head_of(self, path: str) -> str:
        """Give the head of the last request for a path."""
        return next(head for head in reversed(self.heard) if head.split()[1] == path)


@contextlib.contextmanager
def hostile() -> Iterator[Hostile]:
    """Run such a server."""
    told = Hostile()
    ended = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while b"\r\n\r\n" not in head:
                part = self.request.recv(65536)
                if not part:
                    return
                head += part
            text = head.decode("latin-1")
            told.heard.append(text)
            with contextlib.suppress(OSError):
                _answer(self.request, text, ended)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        told.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            ended.set()
            server.shutdown()
            thread.join(60)


def _answer(peer: socket.socket, head: str, ended: threading.Event) -> None:
    path = head.split()[1].partition("?")[0]
    if "upgrade: websocket" in head.lower() and path == "/ws":
        _accept(peer, head)
    elif path in _REDIRECTS:
        peer.sendall(
            f"HTTP/1.1 302 Found\r\nLocation: {_REDIRECTS[path]}\r\n{_HEADS}"
            "Content-Length: 0\r\n\r\n".encode()
        )
    elif path == "/huge":
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        _pour(peer, b"x" * 65536, ended)
    elif path == "/chunks":
        peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        _pour(peer, b"10000\r\n" + b"x" * 65536 + b"\r\n", ended)
    elif path == "/endless":
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nbegin")
        while not ended.wait(0.2):
            peer.sendall(b".")
    elif path == "/silent":
        ended.wait(200)
    elif path == "/garbage":
        peer.sendall(b"\x00\xff\x16\x03 not HTTP at all\r\n\r\n")
    elif path == "/odd-status":
        peer.sendall(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n")
    elif path == "/odd-header":
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: a\x01b\xffc\r\nContent-Length: 2\r\n\r\nhi")
    elif path == "/short":
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")
        time.sleep(0.5)
    elif path == "/refused":
        peer.sendall(f"HTTP/1.1 401 No\r\n{_HEADS}Content-Length: 2\r\n\r\nno".encode())
    else:
        peer.sendall(
            f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{_HEADS}"
            "Content-Length: 2\r\n\r\nhi".encode()
        )


def _pour(peer: socket.socket, part: bytes, ended: threading.Event) -> None:
    while not ended.is_set():
        peer.sendall(part)


def _accept(peer: socket.socket, head: str) -> None:
    """Accept a websocket, say one word, and stay until the other side goes."""
    lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    lines = {name.lower(): value for name, value in lines.items()}
    key = lines["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    peer.sendall(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{_HEADS}\r\n".encode()
        + b"\x81\x02hi"
    )
    while peer.recv(65536):
        pass
