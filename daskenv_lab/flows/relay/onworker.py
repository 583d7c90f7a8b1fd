"""The relay's end on a worker: an HTTP server on loopback that stands for the Prefect API.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import asyncio
import copy
import hmac
import json
import logging
import secrets
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
from distributed import WorkerPlugin
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
)
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, ResponseStartLine
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets

from daskenv_lab.flows.relay.onscheduler import ASK, GONE, LATE, NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.settings.legacy import Setting
    from tornado.httputil import HTTPServerRequest

_log = logging.getLogger("distributed.worker.daskenv")

LARGEST = 100 * 1024 * 1024
"""Bytes of the largest request or answer that is carried."""

AT_ONCE = 32
"""Requests of one worker that are under way at once; each takes a connection to the scheduler."""

STARTING = 30.0
"""Seconds within which the forwarder must listen."""

SPARE = 10.0
"""Seconds that each stage waits longer than the stage behind it."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_HOP_BY_HOP = {
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


@dataclass(frozen=True)
class Door:
    """One API on the forwarder: its path leads to one client, and its token opens it."""

    name: str
    client_id: str
    token: str
    limit: float


@dataclass(frozen=True)
class Answer:
    """What the forwarder answers."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    @classmethod
    def refusal(cls, status: int, reason: str, sentence: str) -> Answer:
        """Make an answer of our own, in the form that Prefect's API gives its errors."""
        body = json.dumps({"detail": sentence}).encode()
        return cls(status, reason, [("Content-Type", "application/json")], body)


class Forwarder(WorkerPlugin):
    """Turns each HTTP request of this worker's tasks into one message to the client."""

    name = NAME

    def __init__(self) -> None:
        self.port = 0
        self._doors: dict[str, Door] = {}
        self._told: set[str] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def setup(self, worker: Any) -> None:
        """Listen on a free port of loopback; the worker calls it on its loop."""
        self._worker = worker
        self._at_once = asyncio.Semaphore(AT_ONCE)
        sockets = bind_sockets(0, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        self._server = HTTPServer(self._take, max_body_size=LARGEST, max_buffer_size=2 * LARGEST)
        self._server.add_sockets(sockets)

    async def teardown(self, worker: Any) -> None:  # noqa: ARG002 - Dask's name
        """Stop listening; the worker calls it when it closes."""
        self._server.stop()
        for task in list(self._serving):
            task.cancel()
        await self._server.close_all_connections()

    def open(self, written: Mapping[str, Any]) -> Door:
        """Give the door to the client and API that a route names."""
        name = str(written["door"])
        if name not in self._doors:
            client_id, limit = str(written["client_id"]), float(written["limit"])
            self._doors[name] = Door(name, client_id, secrets.token_urlsafe(32), limit)
        return self._doors[name]

    def _take(self, request: HTTPServerRequest) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(request))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        if request.connection is not None:
            # Whoever asked has given up.
            cast("Any", request.connection).set_close_callback(task.cancel)

    async def _serve(self, request: HTTPServerRequest) -> None:
        answer = await self._answer(request)
        headers = HTTPHeaders()
        try:
            for name, value in answer.headers:
                headers.add(name, value)
            if answer.status not in (204, 304) and request.method != "HEAD":
                headers["Content-Length"] = str(len(answer.body))
            line = ResponseStartLine("HTTP/1.1", answer.status, answer.reason)
            connection = request.connection
            assert connection is not None  # noqa: S101 - the server gives each request one
            body = b"" if request.method == "HEAD" else answer.body
            await connection.write_headers(line, headers, body or None)
            connection.finish()
        except (StreamClosedError, ConnectionError):
            return

    async def _answer(self, request: HTTPServerRequest) -> Answer:
        parts = (request.uri or "").split("/", 3)
        door = self._doors.get(parts[1]) if len(parts) > 2 and not parts[0] else None
        if door is None or parts[2].partition("?")[0] != "api":
            return Answer.refusal(404, "Not Found", "the relay to the Prefect API has no such path")
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {door.token}".encode()):
            return Answer.refusal(
                401, "Unauthorized", "this relay to the Prefect API serves its worker's tasks only"
            )
        if "upgrade" in request.headers.get("Connection", "").lower():
            return Answer.refusal(
                501,
                "Not Implemented",
                "the relay to the Prefect API carries no websockets; use its HTTP API",
            )
        if request.method not in METHODS:
            return Answer.refusal(
                405, "Method Not Allowed", f"the relay carries no {request.method} requests"
            )
        assert request.uri is not None  # noqa: S101 - it was split above
        async with self._at_once:
            return await self._ask(
                door,
                {
                    "door": door.name,
                    "method": request.method,
                    "target": request.uri[len(f"/{door.name}/api") :],
                    "headers": _forwarded(request.headers),
                    "body": request.body,
                },
            )

    async def _ask(self, door: Door, request: dict[str, Any]) -> Answer:
        limit = door.limit + SPARE
        call = getattr(self._worker.scheduler, ASK)
        try:
            answer = await asyncio.wait_for(
                call(
                    client=door.client_id,
                    worker=self._worker.address,
                    request=request,
                    limit=limit,
                ),
                limit + SPARE,
            )
        except TimeoutError:
            answer = {"fault": LATE}
        except OSError as error:
            return self._lost(door, f"the connection to the scheduler broke ({error})")
        if answer is None:
            return self._lost(door, "the scheduler was started anew")
        fault = answer.get("fault")
        if fault == GONE:
            return self._lost(door, f"the Dask client {door.client_id} has left the cluster")
        if fault == LATE:
            return Answer.refusal(
                504,
                "Gateway Timeout",
                f"the process that runs the flow did not answer within {limit:g} s; see whether "
                "it hangs",
            )
        self._told.discard(door.name)
        headers = [(str(name), str(value)) for name, value in answer["headers"]]
        return Answer(answer["status"], answer["reason"], headers, answer["body"])

    def _lost(self, door: Door, why: str) -> Answer:
        sentence = (
            "the Prefect API cannot be reached from this worker any more, since the process that "
            f"runs the flow carried its calls and is gone: {why}; run the flow again"
        )
        if door.name not in self._told:
            self._told.add(door.name)
            _log.error("%s", sentence)
        # Prefect tries 408, 429, 502 and 503 again, for a minute, and this one not.
        return Answer.refusal(410, "Gone", sentence)


def settings_on(worker: Any, written: Mapping[str, Any]) -> dict[Setting, Any]:
    """Give the Prefect settings by which this worker's tasks reach the API.

    The first call starts the worker's forwarder. It is called in a task's thread, never on the
    worker's event loop.

    Parameters
    ----------
    worker : distributed.Worker
        The worker of this process.
    written : mapping
        What `route.Route.written` gave on the client.
    """
    if not written["relayed"]:
        return {PREFECT_API_URL: written["url"]} if written["url"] else {}
    starting = asyncio.run_coroutine_threadsafe(_forwarder(worker), worker.loop.asyncio_loop)
    forwarder = starting.result(STARTING)
    door = forwarder.open(written)
    return {
        PREFECT_API_URL: f"http://127.0.0.1:{forwarder.port}/{door.name}/api",
        PREFECT_API_KEY: door.token,
        PREFECT_API_AUTH_STRING: None,
        PREFECT_API_SSL_CERT_FILE: None,
        PREFECT_CLIENT_CUSTOM_HEADERS: {},
        # Each stage gives up before the one in front of it does, so that its sentence arrives.
        PREFECT_API_REQUEST_TIMEOUT: door.limit + 3 * SPARE,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: bool(written["csrf"]),
        # The client has done it.
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    }


def put_into(
    settings_context: Mapping[str, Any], settings: Mapping[Setting, Any]
) -> dict[str, Any]:
    """Copy a written settings context with some settings changed, before it is opened."""
    changed: dict[str, Any] = copy.deepcopy(dict(settings_context))
    for setting, value in settings.items():
        *outer, last = setting.accessor.split(".")
        place = changed.setdefault("settings", {})
        for name in outer:
            place = place.setdefault(name, {})
        place[last] = value
    return changed


async def _forwarder(worker: Any) -> Any:
    if NAME not in worker.plugins:
        await worker.plugin_add(Forwarder(), name=NAME, catch_errors=False)
    return worker.plugins[NAME]


def _forwarded(headers: HTTPHeaders) -> list[tuple[str, str]]:
    dropped = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    dropped |= _HOP_BY_HOP
    return [(name, value) for name, value in headers.get_all() if name.lower() not in dropped]


cloudpickle.register_pickle_by_value(sys.modules[__name__])
