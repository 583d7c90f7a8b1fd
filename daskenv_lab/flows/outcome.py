"""How a task run ended, in two parts: its state without the result, pickled, and the result.

A state of Prefect's and the record of its result take 5.5 kB as objects, and a quarter pickled.
The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
import pydantic
from prefect.results import ResultRecord  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

Outcome = tuple[bool, bytes, Any]
"""Whether it completed and the result is held here, the state, and its result or other data."""


def outcome_of(state: State[Any]) -> Outcome:
    """Take a state apart."""
    data = state.data
    if isinstance(data, ResultRecord):
        emptied = data.model_copy(update={"result": None})
        return state.is_completed(), _dumps(state, emptied), data.result
    return False, _dumps(state, None), data


def state_of(outcome: Outcome) -> State[Any]:
    """Put a state together again; the result is the very object that is in the outcome."""
    _, written, data = outcome
    bare = cast("State[Any]", pickle.loads(written))  # noqa: S301 - our own
    if isinstance(bare.data, ResultRecord):
        data = bare.data.model_copy(update={"result": data})
    return with_data(bare, data)


def with_data(state: State[Any], data: Any) -> State[Any]:
    """Copy a state with other data; a state's own way of copying loses its time."""
    return pydantic.BaseModel.model_copy(state, update={"data": data})


def _dumps(state: State[Any], data: Any) -> bytes:
    return pickle.dumps(with_data(state, data))


cloudpickle.register_pickle_by_value(sys.modules[__name__])
