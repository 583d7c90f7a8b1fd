"""What a scheduler sees of a flow run: its task graph, transfers, sizes and workers.

The module is pickled by value: a scheduler need not have this package.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import cloudpickle
from distributed import SchedulerPlugin

PREFIX = "daskenv-recorder-"
"""How the plugins' names begin; then comes the number of the flow run's recording."""

_UUID = 36


class Recorder(SchedulerPlugin):
    """Takes note of task calls and of workers until it is asked, or its client leaves.

    Parameters
    ----------
    name : str
        Its name on the scheduler.
    client : str
        The id of the client that asks for the record.
    """

    idempotent = True

    def __init__(self, name: str, client: str) -> None:
        self.name = name
        self.client = client

    def start(self, scheduler: Any) -> None:
        """Take note of the workers that are there; the scheduler calls it once."""
        self._scheduler = scheduler
        self.calls: dict[str, dict[str, Any]] = {}
        self.workers: list[dict[str, Any]] = []
        self._present: dict[str, dict[str, Any]] = {}
        self.began = time.time()
        for address in scheduler.workers:
            self.add_worker(scheduler, address)
            self._present[address]["joined"] = 0.0

    def transition(self, key: Any, start: str, finish: str, *_: Any, **told: Any) -> None:
        """Take note of what happens to a task call; other keys are let pass."""
        if not isinstance(key, str) or key[-_UUID - 1 : -_UUID] != "-" or key[-13:-12] != "-":
            return
        if finish == "processing":
            call = self.calls.setdefault(key[-_UUID:], {"begun_on": []})
            worker = self._scheduler.tasks[key].processing_on
            call["begun_on"].append(worker.address if worker else "")
        elif finish == "memory" and start == "processing":
            self._finished(key, **told)
        elif start == "memory" and key[-_UUID:] in self.calls:
            self.calls[key[-_UUID:]]["released"] = time.time() - self.began

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Take note of a worker that comes."""
        state = scheduler.workers[worker]
        self._present[worker] = {
            "address": worker,
            "nthreads": state.nthreads,
            "memory_limit": state.memory_limit or 0,
            "joined": time.time() - self.began,
            "memory": state.metrics.get("memory", 0),
            "spilled": 0,
        }
        self.workers.append(self._present[worker])

    def remove_worker(self, scheduler: Any, worker: str, **told: Any) -> None:
        """Take note of a worker that goes."""
        del scheduler, told
        if (gone := self._present.pop(worker, None)) is not None:
            gone["left"] = time.time() - self.began

    def remove_client(self, scheduler: Any, client: str) -> None:
        """End with the client that would have asked."""
        if client == self.client:
            scheduler.remove_plugin(name=self.name)

    def _finished(self, key: str, **told: Any) -> None:
        task = self._scheduler.tasks[key]
        spent = {"compute": 0.0, "transfer": 0.0}
        for one in told.get("startstops") or ():
            spent[one["action"]] = spent.get(one["action"], 0.0) + one["stop"] - one["start"]
        self.calls.setdefault(key[-_UUID:], {"begun_on": [""]}).update(
            needs=[one.key[-_UUID:] for one in task.dependencies],
            compute=spent["compute"],
            transfer=spent["transfer"],
            input_bytes=sum(max(one.nbytes, 0) for one in task.dependencies),
            output_bytes=told.get("nbytes") or 0,
        )
        self.look_at_disk(told.get("worker", ""))

    def look_at_disk(self, address: str) -> None:
        """Take note of what a worker has moved to disk, as its last heartbeat told."""
        if (worker := self._present.get(address)) is not None:
            spilled = self._scheduler.workers[address].metrics.get("spilled_bytes") or {}
            worker["spilled"] = max(worker["spilled"], spilled.get("memory", 0))


def record_of(dask_scheduler: Any, name: str) -> dict[str, Any] | None:
    """Give what the recorder of this name has seen, and end it; None if there is none."""
    recorder = dask_scheduler.plugins.get(name)
    if recorder is None:
        return None
    for address in dask_scheduler.workers:
        recorder.look_at_disk(address)
    dask_scheduler.remove_plugin(name=name)
    left = {worker["address"] for worker in recorder.workers if "left" in worker}
    lost = set()
    for call in recorder.calls.values():
        begun_on = call.pop("begun_on")
        call["attempts"] = len(begun_on)
        lost.update(left.intersection(begun_on[:-1]))
    return {
        "calls": recorder.calls,
        "workers": [{**worker, "lost": worker["address"] in lost} for worker in recorder.workers],
        "bandwidth": dask_scheduler.bandwidth,
    }


cloudpickle.register_pickle_by_value(sys.modules[__name__])
