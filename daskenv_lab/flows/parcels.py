"""What many calls share, kept once by the scheduler while their flow run goes on.

A flow run's context and a task's code are needed by each worker once. As an input of each call
Dask would give the calls of a small map all to the worker that holds it, and with each call a
large context would travel as often as there are calls. So a worker asks the scheduler for what it
meets first, one that joins later as well.

The module is pickled by value: a scheduler has neither this package nor, it may be, Prefect.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed import SchedulerPlugin
from distributed.utils import sync

from daskenv_lab.flows.names import versioned

if TYPE_CHECKING:
    import distributed

NAME = versioned("daskenv-parcels")
"""The plugin's name on the scheduler."""

BEGIN, KEEP, END = (versioned(f"daskenv_parcels_{what}") for what in ("begin", "keep", "end"))
"""What clients tell the scheduler, in the stream in which they send tasks, and so before these."""

FETCH = versioned("daskenv_parcels_fetch")
"""The scheduler's handler that workers call with a key, and that returns the parcel or None."""

PATIENCE = 120.0
"""Seconds for a parcel to arrive; it may be large."""


class Parcels(SchedulerPlugin):
    """Keeps parcels by their keys, until their run ends or its client leaves."""

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self._runs: dict[str, tuple[str, set[str]]] = {}
        self._parcels: dict[str, bytes] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def start(self, scheduler: Any) -> None:
        """Put the handlers in; the scheduler calls it once."""
        scheduler.stream_handlers.update({BEGIN: self.begin, KEEP: self.keep, END: self.end})
        scheduler.handlers[FETCH] = self.fetch

    def begin(self, client: str, run_id: str) -> None:
        """Take parcels of a run from now on."""
        self._runs.setdefault(run_id, (client, set()))

    def keep(self, client: str, run_id: str, key: str, parcel: bytes) -> None:
        """Keep a parcel; a task of a run that has ended may still bring some."""
        del client
        if run_id in self._runs:
            self._runs[run_id][1].add(key)
            self._parcels[key] = parcel

    def end(self, client: str, run_id: str) -> None:
        """Let go of a run's parcels."""
        del client
        for key in self._runs.pop(run_id, ("", set()))[1]:
            self._parcels.pop(key, None)

    def fetch(self, key: str) -> bytes | None:
        """Give a parcel."""
        return self._parcels.get(key)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Let go of the parcels of a client that has left; the scheduler calls it."""
        del scheduler
        for run_id in [run_id for run_id, (owner, _) in self._runs.items() if owner == client]:
            self.end(client, run_id)


def begin(client: distributed.Client, run_id: str) -> None:
    """Let the scheduler keep parcels of a run until its `end`."""
    client._send_to_scheduler({"op": BEGIN, "run_id": run_id})


def keep(client: distributed.Client, run_id: str, key: str, parcel: bytes) -> None:
    """Let the scheduler keep a parcel, before it hears of the tasks that are sent after it."""
    client._send_to_scheduler({"op": KEEP, "run_id": run_id, "key": key, "parcel": parcel})


def end(client: distributed.Client, run_id: str) -> None:
    """Let the scheduler forget the parcels of a run."""
    client._send_to_scheduler({"op": END, "run_id": run_id})


def fetch(worker: distributed.Worker, key: str) -> bytes:
    """Give a parcel on a worker; called in a task's thread.

    Raises
    ------
    LookupError
        The scheduler does not have it, or not any more.
    """
    asked = getattr(worker.scheduler, FETCH)
    parcel: bytes | None = sync(worker.loop, asked, key=key, callback_timeout=PATIENCE)
    if parcel is None:
        raise LookupError(
            "the scheduler does not keep this flow run's context any more: the flow run ended, or "
            "the process that ran it left"
        )
    return parcel


cloudpickle.register_pickle_by_value(sys.modules[__name__])
