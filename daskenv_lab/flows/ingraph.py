"""The one function of ours that stands in Dask's graph, where the scheduler reads it too.

It is pickled by value and imports nothing that a bare scheduler or worker lacks. All that needs
Prefect or the user's modules travels as bytes, which only a worker opens.
"""

from __future__ import annotations

from typing import Any

ROOMS = "daskenv_rooms"
"""The attribute of a Dask worker under which it keeps its open rooms, by id."""


def run_in_room(
    calls: list[bytes], upstream: list[Any], *, room_id: str, room: bytes, code_id: str, code: bytes
) -> Any:
    """Run calls of one task, one after another, in their flow run's room.

    The room is opened on the first call, and its task unpickled on the first call of each task.

    Parameters
    ----------
    calls : list of bytes
        What differs between the calls, pickled.
    upstream : list of list of bytes
        What this function returned for the calls whose results these ones take.
    room_id, code_id : str
        The ids under which this worker keeps the room, and the room keeps the task.
    room, code : bytes
        The room and the task, pickled and compressed.

    Returns
    -------
    list of bytes
        The final state of each call's task run with its result, pickled.
    """
    import zlib

    import cloudpickle
    import distributed

    rooms = distributed.get_worker().__dict__.setdefault("daskenv_rooms", {})
    known = rooms.get(room_id)
    if known is None:
        known = rooms.setdefault(room_id, cloudpickle.loads(zlib.decompress(room)))
    return known.run(calls, upstream, room, code_id, code)


# Dask pickles a graph with pickle, which would write this function by its module's name, and takes
# cloudpickle only where that fails; for cloudpickle, what is of __main__ travels by value.
run_in_room.__module__ = "__main__"
