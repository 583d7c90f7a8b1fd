"""How a task run ended, in two parts: its state without data, pickled, and the data.

A state of Prefect's takes 3.5 kB as an object, and less than a third of it pickled.
The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any, cast

import cloudpickle

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

Outcome = tuple[bytes, Any]


def outcome_of(state: State[Any]) -> Outcome:
    """Take a state apart."""
    return pickle.dumps(state.model_copy(update={"data": None})), state.data


def state_of(outcome: Outcome) -> State[Any]:
    """Put a state together again; the data is the very object that is in the outcome."""
    written, data = outcome
    bare = cast("State[Any]", pickle.loads(written))  # noqa: S301 - our own
    return bare.model_copy(update={"data": data})


cloudpickle.register_pickle_by_value(sys.modules[__name__])
