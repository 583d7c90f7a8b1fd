"""The one function of ours that stands in Dask's graph, where the scheduler reads it too.

It is pickled by value and imports nothing that a bare scheduler or worker lacks. All that needs
Prefect or the user's modules travels as bytes, which only a worker opens.
"""

from __future__ import annotations

from typing import Any

from daskenv_lab.flows.names import versioned

ROOMS = versioned("daskenv_rooms")
"""The attribute of a Dask worker under which it keeps its open rooms, by id."""

OPENING = versioned("daskenv_opening")
"""The attribute under which it keeps the lock for opening one."""


def run_in_room(
    calls: list[bytes],
    upstream: list[Any],
    *,
    engine: str,
    room_id: str,
    task_id: str,
) -> Any:
    """Run calls of one task, one after another, in their flow run's room.

    The room is opened on the first call in it.

    Parameters
    ----------
    calls : list of bytes
        What differs between the calls, pickled.
    upstream : list of list of bytes
        What this function returned for the calls whose results these ones take.
    engine : str
        Under which attribute the worker keeps our code.
    room_id, task_id : str
        The keys of the flow run's context and of the task's code, which the scheduler keeps.

    Returns
    -------
    list of bytes
        The final state of each call's task run with its result, pickled.
    """
    import threading
    import zlib

    import cloudpickle
    import distributed

    kept = distributed.get_worker().__dict__
    rooms = kept.setdefault(ROOMS, {})
    with kept.setdefault(OPENING, threading.Lock()):
        room = rooms.get(room_id)
        if room is None:
            if isinstance(kept[engine], bytes):
                prepare, code = cloudpickle.loads(zlib.decompress(kept[engine]))
                prepare()
                kept[engine] = cloudpickle.loads(code)
            room = rooms[room_id] = kept[engine](room_id)
    return room.run(calls, upstream, task_id)


# Dask pickles a graph with pickle, which would write this function by its module's name, and takes
# cloudpickle only where that fails; for cloudpickle, what is of __main__ travels by value.
run_in_room.__module__ = "__main__"
