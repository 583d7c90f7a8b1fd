"""What a cluster in AWS keeps inside its scheduler: when it ends, and whose turn it is to scale.

The module is pickled by value, so that an image need not hold daskenv_lab; nothing here may refer
to another module of ours, nor to what only new versions of distributed have.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import time
from typing import Any

import cloudpickle


def watch(dask_scheduler: Any, timeout: float) -> None:
    """Have the scheduler end itself after `timeout` seconds without tasks and without clients.

    Dask's own check ends a cluster under a notebook that thinks for long: it counts tasks alone.
    """
    former = getattr(dask_scheduler, "daskenv_watch", None)
    if former is not None:
        former["task"].cancel()
    # Not None, which old versions compare with a number.
    dask_scheduler.idle_timeout = float("inf")
    state: dict[str, Any] = {"timeout": timeout, "used": time.monotonic(), "kept_until": 0.0}
    dask_scheduler.daskenv_watch = state
    if timeout:
        state["task"] = asyncio.ensure_future(_end_when_idle(dask_scheduler, state))


async def _end_when_idle(scheduler: Any, state: dict[str, Any]) -> None:
    transitions: Any = -1
    while True:
        await asyncio.sleep(min(15.0, state["timeout"] / 4))
        counter = getattr(scheduler, "transition_counter", None)
        aside = {"fire-and-forget", *getattr(scheduler, "daskenv_attendants", ())}
        clients = [c for c in scheduler.clients if c not in aside]
        working = any(ws.processing for ws in scheduler.workers.values()) or scheduler.unrunnable
        if clients or working or counter != transitions:
            state["used"] = time.monotonic()
        transitions = counter
        now = time.monotonic()
        if now - state["used"] > state["timeout"] and now > state["kept_until"]:
            log = logging.getLogger("distributed.scheduler")
            log.warning("Idle for %g seconds, ending", state["timeout"])
            options = {"close_workers": True, "reason": "idle"}
            known = inspect.signature(scheduler.close).parameters
            # In a task of its own: closing may cancel this one.
            closing = scheduler.close(**{k: v for k, v in options.items() if k in known})
            scheduler.daskenv_closing = asyncio.ensure_future(closing)
            return


def keep_alive(dask_scheduler: Any, seconds: float) -> float | None:
    """Let the cluster not end by itself for so long; gives the time left, or None if it never ends.

    Examples
    --------
    >>> keep_alive(object(), 60)  # a scheduler that nobody watches
    """
    state = getattr(dask_scheduler, "daskenv_watch", None)
    if not state or not state["timeout"]:
        return None
    now = time.monotonic()
    state["kept_until"] = max(state["kept_until"], now + seconds)
    return float(max(state["kept_until"], state["used"] + state["timeout"]) - now)


def attend(dask_scheduler: Any, client: str) -> None:
    """Note that a client only looks after the cluster, and does not keep it from ending idle."""
    former: set[str] = getattr(dask_scheduler, "daskenv_attendants", set())
    dask_scheduler.daskenv_attendants = {c for c in former if c in dask_scheduler.clients} | {
        client
    }


def attending(dask_scheduler: Any) -> int:
    """Count the clients that only look after the cluster."""
    known = getattr(dask_scheduler, "daskenv_attendants", ())
    return sum(c in dask_scheduler.clients for c in known)


def take_turn(dask_scheduler: Any, token: str, seconds: float, client: str) -> bool:
    """Give one caller at a time the right to start and stop tasks, for so many seconds at most.

    The turn of a client that is gone is over: its process was killed.
    """
    holder, until, whose = getattr(dask_scheduler, "daskenv_turn", ("", 0.0, ""))
    over = time.monotonic() >= until or whose not in dask_scheduler.clients
    if holder not in ("", token) and not over:
        return False
    dask_scheduler.daskenv_turn = (token, time.monotonic() + seconds, client)
    return True


def end_turn(dask_scheduler: Any, token: str) -> None:
    """Give the right back."""
    if getattr(dask_scheduler, "daskenv_turn", ("",))[0] == token:
        dask_scheduler.daskenv_turn = ("", 0.0, "")


async def release(dask_scheduler: Any, n: int) -> list[str]:
    """Have `n` workers hand over what they hold, those that hold least; give their addresses."""
    chosen = list(dask_scheduler.workers_to_close(n=n))
    await dask_scheduler.retire_workers(workers=chosen, close_workers=True)
    return [str(address) for address in chosen]


async def load(dask_scheduler: Any) -> tuple[int, int]:
    """Give the number of workers that the load asks for at this moment, and how many are there."""
    return int(dask_scheduler.adaptive_target()), len(dask_scheduler.workers)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
