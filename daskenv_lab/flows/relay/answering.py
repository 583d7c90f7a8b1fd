"""The relay's end in the client: makes the calls that workers ask for, with its own key."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import uuid
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx
from prefect.events import Event
from prefect.events.worker import EventsWorker
from pydantic import TypeAdapter, ValidationError

from daskenv_lab.flows.relay.mailbox import Mailbox
from daskenv_lab.flows.relay.onscheduler import ANSWER, DROP, GONE, REQUEST
from daskenv_lab.flows.relay.onworker import LARGEST, METHODS, Answer
from daskenv_lab.flows.relay.prefect_http import (
    AT_ONCE,
    ApiSettings,
    http_client,
    send_once,
    settings_alone,
)
from daskenv_lab.flows.reporting import HOLD_LOGS, ITEMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import distributed

_log = logging.getLogger(__name__)

REDIRECTS = 5

_NOT_FORWARDED = {"authorization", "content-length", "cookie", "host", "transfer-encoding"}
_NOT_RETURNED = {
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "upgrade",
}

_EVENTS = TypeAdapter(list[Event])


class Refused(ValueError):
    """A request that is not passed on; the message says why."""


class ApiDoor:
    """One API as the client knows it: its address, key, headers and TLS settings."""

    def __init__(self, settings: ApiSettings) -> None:
        self.name = uuid.uuid4().hex
        self.settings = settings
        self._base = httpx.URL(settings.url.rstrip("/"))
        self._context = settings_alone()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._events = Mailbox(settings, self._context.copy())
        self._logs = Mailbox(settings, self._context.copy(), HOLD_LOGS)
        self._http: httpx.AsyncClient | None = None

    async def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make the call that a worker asked for, and give what its forwarder answers."""
        limit = self.settings.timeout
        try:
            answer = await asyncio.wait_for(self._call(request), limit)
        except Refused as error:
            answer = Answer.refusal(400, "Bad Request", str(error))
        except TimeoutError:
            answer = self._failed(f"it did not answer within {limit:g} s")
        except httpx.TransportError as error:
            answer = self._failed(f"{type(error).__name__}: {error}")
        return vars(answer)

    def hurry(self) -> None:
        """Let what the API is told go out without waiting for more."""
        self._events.hurry()
        self._logs.hurry()

    async def close(self) -> None:
        """Close the connections to the API, once it has been told what it was to be."""
        self._events.end()
        self._logs.end()
        if self._http is not None:
            await self._http.aclose()

    async def _call(self, request: dict[str, Any]) -> Answer:
        method = request["method"]
        if method not in METHODS:
            raise Refused(f"the relay carries no {method!r} requests")
        url = self._url(request["target"])
        if self.settings.cloud and method == "POST" and url.path == f"{self._base.path}/events":
            return self._pass_events_on(request["body"])
        if method == "POST" and (items := _items_told(request["headers"])):
            box = self._events if url.path.endswith("/events") else self._logs
            box.take(url, self._headers(request["headers"]), request["body"], items)
            return Answer(204, "No Content", [])
        if self._http is None:
            self._http = self._context.run(http_client, self.settings)
        async with self._at_once:
            try:
                outgoing = self._http.build_request(
                    method,
                    url,
                    headers=self._headers(request["headers"]),
                    content=request["body"] or None,
                )
            except (TypeError, ValueError) as error:
                raise Refused(f"the request is not well formed ({error})") from error
            return await self._fetch(self._http, outgoing)

    async def _fetch(self, http: httpx.AsyncClient, outgoing: httpx.Request) -> Answer:
        for _ in range(REDIRECTS):
            try:
                response = await send_once(http, outgoing)
            except httpx.LocalProtocolError as error:
                raise Refused(f"the request is not well formed ({error})") from error
            async with contextlib.aclosing(response):
                if response.next_request is None:
                    return await self._answer(response)
            if not self._holds(response.next_request.url):
                raise Refused(f"the Prefect API sends it elsewhere, to {response.next_request.url}")
            outgoing = response.next_request
        raise Refused(f"the Prefect API redirects more than {REDIRECTS} times")

    async def _answer(self, response: httpx.Response) -> Answer:
        body = bytearray()
        # As it came: compressed, if it was.
        async for part in response.aiter_raw():
            body += part
            if len(body) > LARGEST:
                return self._failed(f"its answer is larger than {LARGEST} bytes")
        # The length of an answer to HEAD is that of the body that it does not have.
        head = {"content-length"} if response.request.method == "HEAD" else set()
        headers = _without(response.headers.multi_items(), _NOT_RETURNED - head)
        return Answer(response.status_code, response.reason_phrase, headers, bytes(body))

    def _url(self, target: Any) -> httpx.URL:
        """Give the address below the API's own that a worker asks for."""
        if not isinstance(target, str) or not (not target or target[0] in "/?"):
            raise Refused(f"{target!r} is no path below the Prefect API")
        path = unquote(unquote(target.partition("?")[0])).replace("\\", "/")
        odd = any(not "!" <= sign <= "~" or sign in "\\#" for sign in target)
        if odd or path.startswith("//") or {"..", "."} & set(path.split("/")):
            raise Refused(f"{target!r} is no path below the Prefect API")
        return self._base.copy_with(raw_path=self._base.raw_path.rstrip(b"/") + target.encode())

    def _holds(self, url: httpx.URL) -> bool:
        here = (self._base.scheme, self._base.host, self._base.port)
        below = self._base.path.rstrip("/") + "/"
        return (url.scheme, url.host, url.port) == here and url.path.startswith(below)

    def _headers(self, given: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        return _without(given, {*_NOT_FORWARDED, ITEMS.lower(), *self.settings.own_headers})

    def _pass_events_on(self, body: bytes) -> Answer:
        """Hand events to Prefect's own sender, since Prefect Cloud takes them by websocket."""
        try:
            events = _EVENTS.validate_json(body)
        except ValidationError as error:
            raise Refused(f"these are no events ({error})") from error
        sender = self._context.run(EventsWorker.instance)
        for event in events:
            sender.send(event)
        return Answer(204, "No Content", [])

    def _failed(self, why: str) -> Answer:
        # Prefect tries 502 again, as it would a connection of its own that fails.
        return Answer.refusal(
            502,
            "Bad Gateway",
            f"the process that runs the flow has no answer from the Prefect API at {self._base} "
            f"({why})",
        )


class Answering:
    """Answers what the workers of one cluster ask one Dask client for.

    The calls are made in a thread of the relay's own, so that neither a busy notebook nor a
    scheduler in this process waits for them, nor they for it.
    """

    def __init__(self, client: distributed.Client) -> None:
        self._client = weakref.ref(client)
        self._doors: dict[str, ApiDoor] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        client._stream_handlers[REQUEST] = self._on_request
        client._stream_handlers[DROP] = self._on_drop
        closing = weakref.finalize(client, _close_all, self._doors)
        closing.atexit = False

    def door(self, settings: ApiSettings) -> ApiDoor:
        """Give the door to an API, the same for the same settings."""
        for door in self._doors.values():
            if door.settings == settings:
                return door
        door = ApiDoor(settings)
        self._doors[door.name] = door
        return door

    def hurry(self) -> None:
        """Let what the APIs are told go out without waiting for more."""
        for door in self._doors.values():
            door.hurry()

    def _on_request(self, number: int, request: dict[str, Any] | None) -> None:
        if request is None:
            return
        call = asyncio.get_running_loop().create_task(self._answer(number, request))
        self._calls[number] = call
        call.add_done_callback(lambda _: self._calls.pop(number, None))

    def _on_drop(self, number: int) -> None:
        if call := self._calls.pop(number, None):
            call.cancel()

    async def _answer(self, number: int, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"fault": GONE}
        if door := self._doors.get(request["door"]):
            calling = asyncio.run_coroutine_threadsafe(door.call(request), relay_loop())
            try:
                answer = await asyncio.wrap_future(calling)
            except Exception as error:  # noqa: BLE001 - the worker is told; it must not wait on
                _log.exception("a call that the relay carries failed")
                told = f"the relay failed ({type(error).__name__}: {error})"
                answer = vars(Answer.refusal(500, "Internal Server Error", told))
        if client := self._client():
            with contextlib.suppress(OSError):
                send = getattr(client.scheduler, ANSWER)
                await send(client=client.id, number=number, answer=answer)


_loops: list[asyncio.AbstractEventLoop] = []
_loops_lock = threading.Lock()


def relay_loop() -> asyncio.AbstractEventLoop:
    """Give the event loop, in a thread of its own, in which this process calls its APIs."""
    with _loops_lock:
        if not _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="daskenv-relay", daemon=True).start()
            _loops.append(loop)
        return _loops[0]


def _close_all(doors: dict[str, ApiDoor]) -> None:
    for door in doors.values():
        asyncio.run_coroutine_threadsafe(door.close(), relay_loop())


def _items_told(headers: Iterable[tuple[str, str]]) -> int:
    """Say how many events or log lines a worker sends that needs no answer; else 0."""
    told = next((value for name, value in headers if name.lower() == ITEMS.lower()), "")
    return int(told) if told.isdecimal() else 0


def _without(headers: Iterable[tuple[str, str]], names: set[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in names]
