"""The relay's middle: the scheduler passes requests to the client that owns them, and answers back.

The module is pickled by value: a scheduler has neither this package nor, it may be, Prefect.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import Any

import cloudpickle
from distributed import SchedulerPlugin

from daskenv_lab.flows.names import versioned

NAME = versioned("daskenv-relay")
"""The name of the plugin, on schedulers and on workers."""

ASK = versioned("daskenv_relay_ask")
"""The scheduler's handler that workers call with a request, and that returns the answer."""

ANSWER = versioned("daskenv_relay_answer")
"""The scheduler's handler that a client calls with an answer."""

REQUEST = versioned("daskenv-relay-request")
"""The message by which a client is told of a request."""

DROP = versioned("daskenv-relay-drop")
"""The message by which a client is told that nobody waits for an answer any more."""

GONE = "gone"
"""What stands in the place of an answer: the client has left."""

LATE = "late"
"""What stands in the place of an answer: none came within the time limit."""


class Relay(SchedulerPlugin):
    """Carries requests from workers to clients; it reads neither them nor the answers.

    It uses calls with a reply, and a stream only towards the client: a message that a stream has
    no handler for would close it, and a worker or client that meets a new scheduler would be lost.
    """

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[str, str, asyncio.Future[Any]]] = {}
        self._scheduler: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def start(self, scheduler: Any) -> None:
        """Put the handlers in; the scheduler calls it once."""
        self._scheduler = scheduler
        scheduler.handlers[ASK] = self.ask
        scheduler.handlers[ANSWER] = self.answer

    async def ask(self, client: str, worker: str, request: Any, limit: float) -> Any:
        """Pass a worker's request to a client, and return the client's answer."""
        if client not in self._scheduler.clients:
            return {"fault": GONE}
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (client, worker, answer)
        message = {"op": REQUEST, "number": number, "request": request}
        try:
            self._scheduler.client_send(client, message)
            return await asyncio.wait_for(answer, limit)
        except TimeoutError:
            self._scheduler.client_send(client, {"op": DROP, "number": number})
            return {"fault": LATE}
        finally:
            del self._waiting[number]
            # Dask keeps the last thousand messages of each stream: this one without its content.
            message["request"] = None

    def answer(self, client: str, number: int, answer: Any) -> None:
        """Take a client's answer."""
        owner, _, waiting = self._waiting.get(number, ("", "", None))
        if owner == client and waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def remove_client(self, scheduler: Any, client: str) -> None:  # noqa: ARG002 - Dask's name
        """Answer all that waits for a client that has left; the scheduler calls it."""
        for owner, _, waiting in list(self._waiting.values()):
            if owner == client and not waiting.done():
                waiting.set_result({"fault": GONE})

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Let clients drop what a lost worker has asked for; the scheduler calls it."""
        for number, (client, asker, waiting) in list(self._waiting.items()):
            if asker == worker and not waiting.done():
                scheduler.client_send(client, {"op": DROP, "number": number})
                waiting.set_result({"fault": GONE})


cloudpickle.register_pickle_by_value(sys.modules[__name__])
