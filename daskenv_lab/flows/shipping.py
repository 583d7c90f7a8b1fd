"""Pickling what travels to a worker and back.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import pickle
import sys
import traceback
from typing import TYPE_CHECKING, Any

import cloudpickle
from prefect import Flow
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import BaseAnnotation

from daskenv_lab.flows.future import DaskFuture
from daskenv_lab.flows.outcome import outcome_of, state_of, with_data
from daskenv_lab.flows.prefect3 import current_flow, written_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    import distributed
    from prefect import Task
    from prefect.client.schemas.objects import State


_PLAIN = (bool, bytes, float, int, str, type(None))


class CannotTravel(TypeError):
    """Something that must travel cannot be pickled; the message names it."""


class Packer(cloudpickle.Pickler):
    """Pickles a call or a result, with the futures in it at any depth.

    A future of `client` becomes a reference into `upstream`, which Dask waits for; any other
    future is waited for here, and its state travels.
    """

    def __init__(self, file: io.BytesIO, client: distributed.Client | None = None) -> None:
        super().__init__(file)
        self.upstream: list[DaskFuture] = []
        self._client = client
        self._places: dict[int, int] = {}

    def persistent_id(self, thing: Any) -> int | None:
        """Give a future's place in `upstream`; pickle calls it for each object."""
        if type(thing) is not DaskFuture or thing.wrapped_future.client is not self._client:
            return None
        place = self._places.get(id(thing))
        if place is None:
            place = self._places[id(thing)] = len(self.upstream)
            self.upstream.append(thing)
        return place

    def reducer_override(self, thing: Any) -> Any:
        """Let any other future travel as its state; pickle calls it."""
        if isinstance(thing, PrefectFuture):
            thing.wait()
            return copy.copy, (thing.state,)
        if isinstance(thing, BaseAnnotation):
            # They are tuples, and left alone would be unpickled as a tuple within themselves.
            return type(thing), (thing.unwrap(),)
        return super().reducer_override(thing)


class Unpacker(pickle.Unpickler):
    """Unpickles inputs, with the states of the runs that they build on in place of futures."""

    def __init__(self, file: io.BytesIO, upstream: list[bytes]) -> None:
        super().__init__(file)
        self._upstream = upstream
        self._states: dict[int, Any] = {}

    def persistent_load(self, place: Any) -> Any:
        """Give the state of an upstream task run; pickle calls it."""
        if place not in self._states:
            self._states[place] = state_of(cloudpickle.loads(self._upstream[place]))
        return self._states[place]


def pack(thing: Any, client: distributed.Client | None = None) -> tuple[bytes, list[DaskFuture]]:
    """Pickle anything, and list the futures of `client` that it refers to."""
    file = io.BytesIO()
    packer = Packer(file, client)
    packer.dump(thing)
    return file.getvalue(), packer.upstream


def pack_task(task: Task[Any, Any]) -> bytes:
    """Pickle a task's code and settings.

    Raises
    ------
    CannotTravel
        Something that it uses cannot be pickled; it is named.
    """
    try:
        return pack(task)[0]
    except Exception as error:
        raise CannotTravel(_culprit_in_task(task, error)) from error


def pack_inputs(
    task: Task[Any, Any], parameters: Mapping[str, Any], wait_for: Any, client: distributed.Client
) -> tuple[bytes, list[DaskFuture]]:
    """Pickle a call's arguments and what it waits for.

    Raises
    ------
    CannotTravel
        An argument cannot be pickled; it is named.
    """
    try:
        return pack((dict(parameters), list(wait_for or ())), client)
    except Exception as error:
        raise CannotTravel(_culprit(task, parameters, client, error)) from error


def unpack_inputs(packed: bytes, upstream: list[bytes]) -> tuple[dict[str, Any], Any]:
    """Unpickle what `pack_inputs` pickled; `upstream` holds the states it builds on, pickled."""
    unpacked: tuple[dict[str, Any], Any] = Unpacker(io.BytesIO(packed), upstream).load()
    return unpacked


def _travelled() -> None:
    raise RuntimeError("a flow cannot be called from the context that travelled to a worker")


def written_room() -> dict[str, Any]:
    """Write down the current flow run's context, without the flow's code and hooks.

    What the flow's function mentions stays at home, as do the runner and its credentials; the
    room gives the flow a runner of the worker's.
    """
    flow = current_flow()
    stand_in = Flow(
        fn=_travelled,
        name=flow.name if flow else "none",
        version=flow.version if flow else None,
        validate_parameters=False,
    )
    written = written_context(stand_in)
    if parameters := written["flow_run_context"].get("parameters"):
        kept = {name: value for name, value in parameters.items() if travels(value)}
        written["flow_run_context"]["parameters"] = kept
    return written


def pack_state(state: State[Any]) -> bytes:
    """Pickle a state, with its result if it holds one, as an `Outcome`."""
    if type(getattr(state.data, "result", state.data)) in _PLAIN:
        # Pickle alone is five times as fast as with a look at each object.
        return pickle.dumps(outcome_of(state))
    return pack(outcome_of(state))[0]


def pack_failure(state: State[Any], error: BaseException) -> bytes:
    """Pickle a state that holds an exception, or a plain one in place of one that cannot travel."""
    if not isinstance(error, Exception):
        # Raised from a state, SystemExit would end the thread in which Prefect reads states.
        return pack_state(with_data(state, None))
    told = "".join(traceback.format_exception(error))
    with contextlib.suppress(Exception):
        error.add_note(f"It was raised on a worker:\n{told}")
    try:
        packed = pack_state(state)
        cloudpickle.loads(packed)
    except Exception:  # pickling and unpickling run code of the exception's class
        for carried in (
            _Carried(error),
            _Carried(RuntimeError(f"{type(error).__name__}: {error}")),
        ):
            with contextlib.suppress(Exception):
                packed = pack_state(with_data(state, carried))
                cloudpickle.loads(packed)
                return packed
        raise
    return packed


class _Carried:
    """Stands for an exception in a pickle, and comes out as it, without calling its `__init__`."""

    def __init__(self, error: BaseException) -> None:
        self._parts = (type(error), error.args, dict(vars(error)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, self._parts


def _made_again(
    cls: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    error = cls.__new__(cls, *args)
    error.args = args
    vars(error).update(attributes)
    return error


def travels(thing: Any, client: distributed.Client | None = None) -> bool:
    """Tell whether something can be pickled."""
    try:
        pack(thing, client)
    except Exception:  # noqa: BLE001 - pickling runs any code
        return False
    return True


def _culprit(
    task: Task[Any, Any],
    parameters: Mapping[str, Any],
    client: distributed.Client,
    error: Exception,
) -> str:
    for name, value in parameters.items():
        if not travels(value, client):
            return (
                f"the argument {name!r} of the task {task.name!r} is a {type(value).__name__}, "
                f"which cannot travel to a worker ({error}); pass plain values or a path, and "
                "open connections, locks and clients inside the task"
            )
    return (
        f"what the task {task.name!r} waits for cannot travel to a worker ({error}); pass futures "
        "as `wait_for`"
    )


def _culprit_in_task(task: Task[Any, Any], error: Exception) -> str:
    found = _variable(inspect.unwrap(task.fn), {id(task)})
    if found is not None:
        name, value, through = found
        by = f", by the function {through!r}," if through else ""
        return (
            f"the task {task.name!r} uses the variable {name!r}{by} a {type(value).__name__}, "
            f"which cannot travel to a worker ({error}); make it inside the task, or pass "
            "what the task needs of it as an argument"
        )
    return (
        f"the task {task.name!r} cannot travel to a worker ({error}); look for an open "
        "connection, lock or client in its hooks, its defaults or what it calls"
    )


def _variable(function: Any, seen: set[int], through: str = "") -> tuple[str, Any, str] | None:
    """Find a variable that cannot travel, in a function or in those that it calls."""
    try:
        used = inspect.getclosurevars(function)
    except TypeError:
        return None
    for name, value in {**used.globals, **used.nonlocals}.items():
        if id(value) in seen or travels(value):
            continue
        seen.add(id(value))
        inner = inspect.unwrap(getattr(value, "fn", value))
        deeper = _variable(inner, seen, name) if inspect.isfunction(inner) else None
        return deeper or (name, value, through)
    return None


cloudpickle.register_pickle_by_value(sys.modules[__name__])
