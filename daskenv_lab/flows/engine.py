"""Our own code on workers: sent once to each worker of a cluster, also to one that comes later.

It makes some 170 kB, 65 kB compressed, so it does not travel with flow runs. The plugin itself is
pickled by value, for workers and schedulers that do not have this package.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import platform
import sys
import threading
import weakref
import zlib
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed import WorkerPlugin

from daskenv_lab.flows.lightly import import_jsonschema
from daskenv_lab.flows.names import versioned
from daskenv_lab.flows.parcels import Parcels
from daskenv_lab.flows.reporters import REPORTERS
from daskenv_lab.flows.room import TOPIC

if TYPE_CHECKING:
    import distributed

PREFIX = "daskenv_engine-"
"""How the names of the plugins begin, and of the attributes in which workers keep the code."""


class Engine(WorkerPlugin):
    """Keeps the code on a worker until its first task run needs it, since that imports Prefect."""

    idempotent = True

    def __init__(self, name: str, packed: bytes) -> None:
        self.name = name
        self.packed = packed

    def setup(self, worker: Any) -> None:
        """Keep the code; Dask calls it on each worker."""
        worker.__dict__.setdefault(self.name, self.packed)

    async def teardown(self, worker: Any) -> None:
        """Send what the API has not been told; Dask calls it on a worker that closes."""
        reporters = list(worker.__dict__.get(REPORTERS, {}).values())
        # In threads, since what is relayed goes through the worker's own loop.
        await asyncio.gather(*(asyncio.to_thread(reporter.close) for reporter in reporters))
        if not any(reporter.pending for reporter in reporters):
            worker.log_event(TOPIC, {"left": worker.address})


class Engines:
    """Which schedulers have the code, by client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()

    def ensure(self, client: distributed.Client, opener: Any) -> str:
        """See to it that the workers have the code and the scheduler keeps parcels.

        It gives the code's name.

        Parameters
        ----------
        client : distributed.Client
            A client of the cluster.
        opener : callable
            The function that opens a room; all code that runs on workers hangs on it.
        """
        name, packed = _packed(opener)
        scheduler = str(client._scheduler_identity.get("id"))
        with self._lock:
            known = self._known.setdefault(client, set())
            if scheduler not in known:
                client.register_plugin(Parcels())
                client.register_plugin(Engine(name, packed))
                known.add(scheduler)
        return name


@functools.cache
def _packed(opener: Any) -> tuple[str, bytes]:
    """Pickle the code, under a name that says which code it is."""
    by_value = sorted(n for n in cloudpickle.list_registry_pickle_by_value() if n in sys.modules)
    own = [n for n in by_value if n.startswith(f"{__name__.partition('.')[0]}.")]
    digest = hashlib.sha256(versioned(platform.python_version()).encode())
    for module in own:
        digest.update(inspect.getsource(sys.modules[module]).encode())
    name = f"{PREFIX}{digest.hexdigest()[:16]}"
    # What comes first is done before the rest imports Prefect.
    parts = import_jsonschema, cloudpickle.dumps(opener)
    return name, zlib.compress(cloudpickle.dumps(parts))


cloudpickle.register_pickle_by_value(sys.modules[__name__])
