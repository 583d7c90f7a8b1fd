"""The websockets of a dashboard's pages, through which Bokeh keeps its plots up to date."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httputil import HTTPInputError
from tornado.iostream import StreamClosedError
from tornado.websocket import (
    WebSocketClosedError,
    WebSocketError,
    WebSocketHandler,
    websocket_connect,
)

from daskenv_lab.errors import DaskEnvLabError, ProviderUnreachable
from daskenv_lab.server.proxy import PageHandler

if TYPE_CHECKING:
    from tornado.websocket import WebSocketClientConnection

    from daskenv_lab.server.ticket import Ticket
    from daskenv_lab.server.upstream import Upstream

_LATE = 300.0
"""Seconds after its ticket ran out in which a page may still connect; as Bokeh's own tokens."""

_CONNECT_TIME = 15.0
_PING_EVERY = 20.0
_LOOK_EVERY = 5.0
_LARGEST = 64 * 2**20
"""Bytes of one message; a plot with all its data is one."""


class DashboardHandler(PageHandler, WebSocketHandler):
    """Answers for pages and for their websockets, which have the same addresses.

    No message counts as somebody's activity, which would keep an idle server alive.
    """

    _ticket: Ticket
    _theirs: WebSocketClientConnection | None = None
    _tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def ping_interval(self) -> float:
        """Seconds between two looks whether the browser is still there."""
        return _PING_EVERY

    @property
    def max_message_size(self) -> int:
        """Bytes of one message."""
        return _LARGEST

    @allow_unauthenticated
    async def get(self, *parts: str) -> None:
        """Fetch a page, or connect both sides of a websocket."""
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            await PageHandler.get(self, *parts)
            return
        try:
            word, path = self._parts()
            self._ticket = self.tickets.read(word, late=_LATE)
            upstream = await self.upstreams.allowed(self._ticket)
            self._theirs = await self._connect(upstream, path)
        except DaskEnvLabError as error:
            self._refuse(error)
            return
        try:
            await WebSocketHandler.get(self, *parts)  # Until the page hangs up.
        finally:
            self.on_close()

    def open(self, *_: str) -> None:
        """Begin to bring what the dashboard says."""
        self._tasks = (
            asyncio.ensure_future(self._bring()),
            asyncio.ensure_future(self._watch()),
        )

    def check_origin(self, origin: str) -> bool:
        """Let only pages in a sandbox in, which have no origin."""
        return origin == "null"

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Take the protocol that the dashboard took."""
        chosen = self._theirs.selected_subprotocol if self._theirs else None
        return chosen if chosen in subprotocols else None

    async def on_message(self, message: str | bytes) -> None:
        """Send what the page says on to the dashboard."""
        if self._theirs is not None:
            with contextlib.suppress(WebSocketClosedError, StreamClosedError):
                await self._theirs.write_message(message, binary=isinstance(message, bytes))

    def on_close(self) -> None:
        """Hang up on the dashboard when the page has gone, or was refused after all."""
        for task in self._tasks:
            task.cancel()
        if self._theirs is not None:
            self._theirs.close()

    async def _connect(self, upstream: Upstream, path: str) -> WebSocketClientConnection:
        """Connect to the dashboard's websocket, as a page of its own would."""
        address = upstream.address(path, self.request.query)
        headers = self.sent_on()
        headers["Origin"] = upstream.origin
        asked = self.request.headers.get("Sec-WebSocket-Protocol", "")
        request = HTTPRequest(
            f"ws{address.removeprefix('http')}",
            headers=headers,
            connect_timeout=_CONNECT_TIME,
            request_timeout=_CONNECT_TIME,
            follow_redirects=False,
            user_agent="daskenv_lab",
        )
        try:
            return await websocket_connect(
                request,
                ping_interval=_PING_EVERY,
                max_message_size=_LARGEST,
                subprotocols=[word.strip() for word in asked.split(",")] if asked else None,
            )
        except (HTTPClientError, HTTPInputError, WebSocketError, OSError, ValueError) as error:
            self.upstreams.forget(upstream.name)
            raise ProviderUnreachable(
                f"the dashboard of {upstream.name!r} takes no websocket ({error})"
            ) from error

    async def _bring(self) -> None:
        """Send what the dashboard says on to the page, until one of them hangs up."""
        assert self._theirs is not None  # noqa: S101 - connected before
        try:
            while (message := await self._theirs.read_message()) is not None:
                await self.write_message(message, binary=isinstance(message, bytes))
        except (WebSocketClosedError, StreamClosedError):
            pass
        finally:
            self.close()

    async def _watch(self) -> None:
        """Hang up when the cluster is not in this user's record any more."""
        while await self.upstreams.stands(self._ticket):
            await asyncio.sleep(_LOOK_EVERY)
        self.close()
