"""Making the events that Prefect's engine tells of task runs on a worker.

The engine makes them of what it has made itself, has each value checked, and subtracts times of
pendulum's: 0.4 ms for each of three, of some 10 ms that a small task run takes. What comes out
here is the same, unchecked: `tests/flows/test_emitting.py` compares them.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import cloudpickle
from prefect.events.schemas.events import Event, RelatedResource, Resource
from prefect.events.utilities import TIGHT_TIMING
from prefect.exceptions import EventTooLarge
from prefect.settings import get_current_settings
from prefect.utilities import engine as prefects_engine

from daskenv_lab.flows.names import versioned
from daskenv_lab.flows.sender import sender_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

EMITTING = versioned("daskenv_emitting")
"""The attribute of Prefect's module by which it is known that `put_in_place` was called."""

GIVEN = {"event", "resource", "occurred", "related", "payload", "id", "follows"}
"""What the engine gives; with anything else, Prefect's own function is called."""

_log = logging.getLogger("distributed.worker.daskenv")


class Emitter:
    """Is called where Prefect's engine emits events, and hands on what is not for our sender.

    Parameters
    ----------
    before : callable
        What was called there before: `prefect.events.utilities.emit_event`.
    """

    def __init__(self, before: Callable[..., Event | None]) -> None:
        self._before = before

    def __call__(self, **given: Any) -> Event | None:
        """Make an event and send it; what Prefect's own function does for a task run.

        As there, one that cannot be sent is logged, and its task run goes on.

        Raises
        ------
        prefect.exceptions.EventTooLarge
            It has more bytes than the settings allow.
        """
        sender = sender_here()
        if sender is None or given.keys() != GIVEN:
            return self._before(**given)
        try:
            made = _made(**given)
            size = made.size_bytes
        except Exception:  # noqa: BLE001 - Prefect's own function says what is wrong with it
            return self._before(**given)
        most = get_current_settings().server.events.maximum_size_bytes
        if size > most:
            raise EventTooLarge(size, most)
        try:
            sender.send(made)
        except Exception:  # noqa: BLE001 - it is logged; the task run goes on
            _log.exception("the event %s of a task run was not sent", made.event)
            return None
        return made


def _made(
    *,
    event: str,
    resource: dict[str, str],
    occurred: datetime,
    related: list[dict[str, str]],
    payload: dict[str, Any],
    id: UUID,  # noqa: A002 - as Prefect names it
    follows: Event | None,
) -> Event:
    return Event.model_construct(
        occurred=occurred,
        event=event,
        resource=Resource.model_construct(root=resource),
        related=[RelatedResource.model_validate(one) for one in related],
        payload=payload,
        id=id,
        follows=follows.id if follows and _near(occurred, follows.occurred) else None,
    )


def _near(one: datetime, other: datetime) -> bool:
    # Of pendulum's times, whose own ways take ten times as long.
    apart = datetime.timestamp(one) - datetime.timestamp(other)
    return abs(apart) < TIGHT_TIMING.total_seconds()


def put_in_place() -> None:
    """Let Prefect's engine emit events by an `Emitter`, in this process."""
    if not hasattr(prefects_engine, EMITTING):
        place = vars(prefects_engine)
        place[EMITTING] = True
        place["emit_event"] = Emitter(place["emit_event"])


cloudpickle.register_pickle_by_value(sys.modules[__name__])
