"""Hold a cluster object alive: ``python -m daskenv_lab.providers.process_holder <folder>``.

What to make comes as JSON on the standard input, which nobody else can read. Orders then come over
a loopback connection, whose caller must know the key in the private record: JSON bytes, never
pickles.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import secrets
import shutil
import sys
import threading
import time
from concurrent.futures import TimeoutError as NotYet
from multiprocessing import AuthenticationError
from multiprocessing.connection import (
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from pathlib import Path
from typing import Any

import psutil

from daskenv_lab import config
from daskenv_lab.background import Background, end_all, end_on_signal, write_record
from daskenv_lab.bounded import in_background
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.environments.codec import decode
from daskenv_lab.errors import ProviderError, nearest

RECORD = "holder.json"

# A cluster class may have machines to give back; whoever waits has a shorter limit of its own.
_CLOSE_LIMIT = 600.0
_LONGEST_ORDER = 65_536


class Holder:
    """One cluster, and the orders for it.

    Parameters
    ----------
    folder : Path
        The private folder for the record.
    order : dict
        ``path`` of the class, encoded ``kwargs``, and ``security``: None, a flag, or encoded
        arguments of `distributed.Security`.
    end : threading.Event
        Set when the cluster is to be closed.
    """

    def __init__(self, folder: Path, order: dict[str, Any], end: threading.Event) -> None:
        self._folder = folder
        self._order = order
        self._end = end
        self._key = secrets.token_bytes(32)
        self._adaptive: Any = None
        self._cluster: Any = None
        self._own = Background.current()
        self._tell("starting")

    def run(self) -> None:
        """Make the cluster, serve orders until the end, and close it."""
        # In a thread, so that a signal ends the waiting and never half of a constructor.
        making = in_background(lambda: _make(self._order))
        while not making.done():
            self._end.wait(0.05)
            if self._end.is_set():
                break
        try:
            self._cluster = making.result(_CLOSE_LIMIT)
        except Exception as error:  # noqa: BLE001 - any class may be held, and raise anything
            self._tell("failed", error=f"{type(error).__name__}: {error}")
            return
        try:
            if not self._end.is_set():
                self._serve()
        finally:
            self._close()

    def _serve(self) -> None:
        listener = Listener(("127.0.0.1", 0))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        self._tell("running", control=list(listener.address), key=self._key.hex())
        self._watch()

    def _tell(self, status: str, **more: Any) -> None:
        own = {"schema": 1, "pid": self._own.pid, "started": self._own.started}
        path = self._order.get("path")
        write_record(self._folder / RECORD, {**own, "status": status, "class": path, **more})

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                caller = listener.accept()
            except OSError:
                continue
            # Each in a thread: a caller that says nothing must not block the others.
            threading.Thread(target=self._answer, args=(caller,), daemon=True).start()

    def _answer(self, caller: Connection) -> None:
        with caller, contextlib.suppress(AuthenticationError, EOFError, OSError):
            deliver_challenge(caller, self._key)
            answer_challenge(caller, self._key)
            try:
                answer = self._obey(json.loads(caller.recv_bytes(_LONGEST_ORDER)))
            except Exception as error:  # noqa: BLE001 - the caller is told what went wrong
                answer = {"error": f"{type(error).__name__}: {error}"}
            caller.send_bytes(json.dumps(answer).encode())

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        from daskenv_lab.providers.credentials import for_clients

        match order:
            case {"op": "describe"}:
                return {
                    "address": self._cluster.scheduler_address,
                    "dashboard": self._cluster.dashboard_link or None,
                    "security": for_clients(getattr(self._cluster, "security", None)),
                }
            case {"op": "scale", "n": int(n)}:
                if self._adaptive is not None:
                    self._adaptive.stop()
                    self._adaptive = None
                self._cluster.scale(n)
            case {"op": "adapt", "minimum": int(minimum), "maximum": int(maximum)}:
                self._adaptive = self._cluster.adapt(minimum=minimum, maximum=maximum)
            case {"op": "shutdown"}:
                self._end.set()
            case _:
                raise ValueError(f"unknown order {order!r}")
        return {}

    def _watch(self) -> None:
        """Wait for the end: an order, a signal, a lost scheduler, or idleness."""
        idle_timeout = config.seconds("local.idle-timeout")
        pause = min(15.0, idle_timeout / 4) if idle_timeout else 15.0
        used, failures = time.monotonic(), 0
        tasks: Any = None
        while not self._end.wait(pause):
            try:
                # Not kept open, or it would count among the clients.
                with contextlib.closing(self._connection()) as connection:
                    now = connection.describe()
            except ProviderError:
                failures += 1
                if failures == 3:
                    print("the scheduler does not answer, ending", file=sys.stderr)  # noqa: T201
                    break
                continue
            failures = 0
            if now["clients"] or now["busy"] or now["tasks"] != tasks:
                used = time.monotonic()
            tasks = now["tasks"]
            if idle_timeout and time.monotonic() - used > idle_timeout:
                print(f"idle for {idle_timeout:g} seconds, ending", file=sys.stderr)  # noqa: T201
                break

    def _connection(self) -> Any:
        from daskenv_lab.providers.connection import Connection as ToScheduler

        return ToScheduler(
            ClusterRef(provider="process", id=self._folder.name),
            self._cluster.scheduler_address,
            security=getattr(self._cluster, "security", None) or None,
        )

    def _close(self) -> None:
        closed = True
        try:
            in_background(self._cluster.close).result(_CLOSE_LIMIT)
        except NotYet:
            closed = False
        end_all(psutil.Process().children(recursive=True), patience=2)
        shutil.rmtree(self._folder, ignore_errors=True)
        if not closed:
            # A thread that hangs would keep the interpreter from ending.
            os._exit(1)


def _make(order: dict[str, Any]) -> Any:
    module, _, name = order["path"].rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    arguments = decode(order["kwargs"])
    for name, value in order["defaults"].items():
        if _takes(cls, name):
            arguments.setdefault(name, value)
    if _takes(cls, "worker_kwargs") and _takes(cls, "threads_per_worker"):
        _refuse_unknown(cls, arguments)
    security = decode(order["security"])
    if security is True:
        arguments["security"] = _temporary()
    elif security:
        from daskenv_lab.providers.credentials import security_from

        arguments["security"] = security_from(security)
    return cls(**arguments)


def _refuse_unknown(cls: Any, arguments: dict[str, Any]) -> None:
    """Refuse what LocalCluster would pass on to workers, none of which would ever start."""
    from distributed import Nanny, Worker

    known = {name for maker in (cls, Nanny, Worker) for name in _parameters(maker)}
    for name in arguments:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean {near!r}?" if near else ""
            raise TypeError(f"{cls.__name__} has no argument {name!r}{hint}")


def _temporary() -> Any:
    import distributed

    return distributed.Security.temporary()


def _takes(cls: Any, name: str) -> bool:
    """Tell whether a class, or one that it derives from, names a parameter."""
    return name in _parameters(cls)


def _parameters(cls: Any) -> set[str]:
    names: set[str] = set()
    for maker in [c.__init__ for c in getattr(cls, "__mro__", ())] or [cls]:
        with contextlib.suppress(TypeError, ValueError):
            names.update(inspect.signature(maker).parameters)
    return names


def main() -> None:
    """Hold the cluster that the standard input describes."""
    end = threading.Event()
    end_on_signal(end)
    folder = Path(sys.argv[1])
    os.umask(0o077)
    Holder(folder, json.loads(sys.stdin.buffer.read()), end).run()


if __name__ == "__main__":
    main()
