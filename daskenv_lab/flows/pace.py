"""When a Prefect server is told of what task runs do, and how much at once.

A server keeps what it is told in memory until it has recorded it: 10,000 messages for each of its
services (`prefect/server/utilities/messaging/memory.py` of Prefect 3.8). It drops what comes beyond
them, and thousands of task runs would stay unfinished there for ever. So it is sent only as much as
it has room for, and the rest once it has recorded what came before.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 0.4
"""Seconds for which events and logs gather before they are sent."""

MANY = 20
"""Events in an interval from which on they are held: a server records some 50 a second."""

PAUSE = 2.0
"""Seconds without as many more, after which what is held is sent."""

UNRECORDED = 4_000
"""Events that a server has been sent and may not have recorded yet, by all senders together."""

FEWEST = 40
"""The same of one of very many senders."""

LOOK = 0.25
"""Seconds between two looks at what the server has recorded."""

GIVE_UP = 120.0
"""Seconds after which what was sent is taken for recorded: another server may stand there now."""


class Gathering:
    """Says when to send what has come in: a moment after the first, or when no more comes.

    Parameters
    ----------
    hold : float
        Seconds for which many are held at most.
    """

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._came = 0
        self._some, self._now = threading.Event(), threading.Event()

    def add(self, number: int = 1) -> None:
        """Take note of what has come in; of 0, that there is something to send."""
        self._came += number
        self._some.set()

    def hurry(self) -> None:
        """End the waiting for more."""
        self._now.set()

    def wait(self, meanwhile: Callable[[], None]) -> None:
        """Wait until what there is should be sent; call `meanwhile` every few seconds."""
        self._some.wait()
        deadline = time.monotonic() + self._hold
        pause = INTERVAL
        while True:
            before = self._came
            if self._now.wait(pause) or time.monotonic() >= deadline:
                break
            if self._came - before < MANY:
                break
            pause = PAUSE
            meanwhile()
        self._some.clear()
        self._now.clear()


class Mark(NamedTuple):
    """A task run, and the time of an event of its: both recorded, or neither."""

    task_run_id: str
    occurred: datetime

    def in_record(self, task_run: Any) -> bool:
        """Tell whether the API's record of the task run, as JSON, has what happened then."""
        state = task_run.get("state") if isinstance(task_run, dict) else None
        try:
            return state is not None and datetime.fromisoformat(state["timestamp"]) >= self.occurred
        except (LookupError, TypeError, ValueError):
            return False


def mark_of(events: bytes) -> Mark | None:
    """Give the mark of the last of some events, a JSON list; None if it is not about a task run."""
    try:
        told = json.loads(events)[-1]
        kind, _, task_run_id = told["resource"]["prefect.resource.id"].rpartition(".")
        if kind != "prefect.task-run" or not told["event"].startswith("prefect.task-run."):
            return None
        return Mark(task_run_id, datetime.fromisoformat(told["occurred"]))
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


class Pace:
    """Knows what one sender has sent to a server that may not have recorded it yet.

    Parameters
    ----------
    senders : int
        How many send to the server at once, as far as is known; they share its room.
    """

    def __init__(self, senders: int) -> None:
        self._room = max(FEWEST, UNRECORDED // senders)
        self._sent: deque[tuple[float, int, Mark | None]] = deque()
        self._number = self._asked = 0

    @property
    def most(self) -> int:
        """How many events may be sent at once."""
        return self._room // 2

    def lift(self) -> None:
        """Let all be sent at once from now on."""
        self._room = sys.maxsize

    def sent(self, number: int, mark: Mark | None) -> None:
        """Take note of events that were sent, and of the mark of the last one."""
        self._sent.append((time.monotonic(), number, mark))
        self._number += number

    def awaited(self) -> Mark | None:
        """Give what must have been recorded before more is sent; None if there is room."""
        while self._sent and self._sent[0][0] < time.monotonic() - GIVE_UP:
            self._forget(1)
        if self._number < self._room:
            return None
        older = 0
        for place, (_, number, mark) in enumerate(self._sent):
            older += number
            if mark is not None and older * 2 >= self._number:
                self._asked = place + 1
                return mark
        self._forget(len(self._sent))
        return None

    def recorded(self) -> None:
        """Take note that what was last awaited has been recorded, and so what was sent before."""
        self._forget(self._asked)

    def _forget(self, places: int) -> None:
        for _ in range(places):
            self._number -= self._sent.popleft()[1]


cloudpickle.register_pickle_by_value(sys.modules[__name__])
