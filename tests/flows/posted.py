"""A stand-in for the Prefect API that keeps what is posted to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Post = tuple[str, list[Any]]


class Api(ThreadingHTTPServer):
    """An HTTP server that keeps what is posted, and answers as it is told; it runs in a thread."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts: list[Post] = []
        self.taken_posts: list[Post] = []
        self.token_status = 404  # as servers without CSRF protection have
        self.status: Callable[[str, list[Any]], int] = lambda path, items: 201
        self.recorded: str | None = None
        """Up to when events were recorded, as a timestamp of ISO 8601; None of no task run."""

    def __enter__(self) -> Self:
        super().__enter__()
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join(120)
        super().__exit__(*_)

    @property
    def url(self) -> str:
        """The address that clients are given."""
        return f"http://127.0.0.1:{self.server_address[1]}/api"

    def taken(self, path: str) -> list[list[Any]]:
        """List the batches that came to a path and were taken."""
        return [items for p, items in self.taken_posts if p == path]


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        items = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.removeprefix("/api").rstrip("/")
        self.server.posts.append((path, items))
        status = self.server.status(path, items)
        if status < 300:
            self.server.taken_posts.append((path, items))
        self._answer(status)

    def do_GET(self) -> None:
        if "/flows/" in self.path:
            self._answer(200, b'{"name": "f"}')
        elif "/task_runs/" not in self.path:
            self._answer(self.server.token_status)
        elif self.server.recorded is None:
            self._answer(404)
        else:
            task_run = {"state": {"timestamp": self.server.recorded}}
            self._answer(200, json.dumps(task_run).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes = b"{}") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
