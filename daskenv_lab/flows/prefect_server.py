"""The process of the local Prefect API: Prefect's own server, which tries refused requests again.

SQLite refuses to write for a transaction that has read before another one wrote. Prefect's server
answers such a request with 503, and its clients try again after 2, 4 and 8 seconds: while a large
flow run is being recorded, the next one would begin that late. Here the server tries again itself,
after hundredths of a second. What it refused has been rolled back.

Run it as ``python -m daskenv_lab.flows.prefect_server server start``, with Prefect's own options.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REFUSED = 503

PATIENCE = 10.0
"""Seconds for which a request is tried again before its client hears that it was refused."""

PAUSE = 0.02
"""Seconds before a request is tried again for the first time; then twice as long, and so on."""

LONGEST_PAUSE = 0.08


class TryAgain:
    """Calls an ASGI application again with a request that it has refused for now.

    Parameters
    ----------
    app : ASGI application
        What answers.
    patience : float
        Seconds for which it is called again.
    """

    def __init__(self, app: ASGIApp, patience: float = PATIENCE) -> None:
        self._app = app
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = await _whole(receive)
        deadline = time.monotonic() + self._patience
        pause = PAUSE
        while time.monotonic() < deadline:
            answer = _Answer(send)
            try:
                await self._app(dict(scope), _replayed(request, receive), answer.take)
            except Exception:
                # Starlette raises what it has answered, so that it is logged.
                if not answer.refused:
                    raise
            if not answer.refused:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        await self._app(scope, _replayed(request, receive), send)


class _Answer:
    """Passes an answer on, unless it is that the request is refused."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.refused = False

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.refused = message["status"] == REFUSED
        if not self.refused:
            await self._send(message)


async def _whole(receive: Receive) -> list[Message]:
    """Read a request to its end."""
    messages = [await receive()]
    while messages[-1]["type"] == "http.request" and messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def _replayed(request: list[Message], receive: Receive) -> Receive:
    """Give what a request is read by, once more from its beginning."""
    left = iter(request)

    async def again() -> MutableMapping[str, Any]:
        message = next(left, None)
        return await receive() if message is None else message

    return again


def _patient(create_app: Callable[..., Any]) -> Callable[..., Any]:
    def create(*args: Any, **kwargs: Any) -> Any:
        app = create_app(*args, **kwargs)
        # Prefect keeps one application for each set of settings.
        if not any(middleware.cls is TryAgain for middleware in app.user_middleware):
            app.add_middleware(TryAgain)
        return app

    return create


if __name__ == "__main__":
    from prefect.cli import app
    from prefect.server.api import server

    server.create_app = _patient(server.create_app)
    app()
