"""The one function of ours that stands in Dask's graph, where the scheduler reads it too.

It is pickled by value and imports nothing that a bare scheduler or worker lacks. All that needs
Prefect or the user's modules travels as bytes, which only a worker opens.
"""

from __future__ import annotations

from typing import Any

ROOMS = "daskenv_rooms"
"""The attribute of a Dask worker under which it keeps its open rooms, by id."""


def run_in_room(room_id: str, packed: bytes, call: bytes, upstream: list[Any]) -> Any:
    """Run a task call in its flow run's room, which is opened on the first call.

    Parameters
    ----------
    room_id : str
        The id under which this worker keeps the room.
    packed : bytes
        The room, pickled and compressed.
    call : bytes
        The task and its arguments, pickled.
    upstream : list
        What this function returned for the calls whose results this one takes.
    """
    import zlib

    import cloudpickle
    import distributed

    rooms = distributed.get_worker().__dict__.setdefault("daskenv_rooms", {})
    room = rooms.get(room_id)
    if room is None:
        room = rooms.setdefault(room_id, cloudpickle.loads(zlib.decompress(packed)))
    return room.run(call, upstream, packed)


# Dask pickles a graph with pickle, which would write this function by its module's name, and takes
# cloudpickle only where that fails; for cloudpickle, what is of __main__ travels by value.
run_in_room.__module__ = "__main__"
