"""Code on workers: kept in a private folder by content, and imported by the runs it belongs to.

A worker process has one ``sys.modules``. It holds the modules of one code at a time; when a call
with another code comes, they are put aside and the others are put in, so that each keeps its
modules and their state. Calls with different codes take turns in a process: one that has to wait
goes back to the scheduler, and so never holds a slot. A call without code of its own sees none of
another's: it has its turn too.

The module is pickled by value, for workers and schedulers that do not have this package.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import shutil
import sys
import tempfile
import threading
import time
import types
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import distributed.worker
from distributed import Reschedule, WorkerPlugin

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "daskenv-code-"
"""How the names of our plugins at the scheduler begin."""

CURRENT = "daskenv-current-code"
"""The plugin with the code that is imported outside of flow runs: the one shipped last."""

HELD = "daskenv_code"
"""The attribute of a scheduler under which it notes who uses which plugin."""

KEPT = 64_000_000
"""Bytes of code that a scheduler keeps although nobody who uses it is connected."""

KEPT_CODES = 6
"""Codes that a worker process keeps loaded."""

TURN = 0.2
"""Seconds that a call waits for its turn before it goes back to the scheduler."""

OVERTAKE = 10.0
"""Seconds after which a call does not wait any more for calls that Dask has cancelled.

They are interrupted at once; code in C does not notice.
"""


@dataclass(frozen=True, slots=True)
class Code:
    """One state of the user's own modules, as a flow run uses them."""

    id: str = ""
    """The content in short; "" for none."""
    names: tuple[str, ...] = ()
    """The first parts of the modules' names."""
    bundles: tuple[str, ...] = ()
    """The archives that hold the files."""
    owner: str = ""
    """The process that shipped it, where the modules are there without us."""

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let imports and pickles find these modules, while a call unpickles and runs.

        Raises
        ------
        distributed.Reschedule
            Calls with other code run in this process; the scheduler sends the call again.
        RuntimeError
            The worker does not have the files.
        """
        store = store_here()
        if self.owner and store.home == self.owner:
            yield
            return
        call = store.enter(self)
        token = store.current.set(self)
        try:
            yield
        finally:
            store.current.reset(token)
            store.leave(call)


class _Call:
    """A call that runs in this process."""

    __slots__ = ("_key", "_worker")

    def __init__(self) -> None:
        told = distributed.worker.thread_state
        self._key = getattr(told, "key", None)
        self._worker = getattr(told, "execution_state", {}).get("worker")

    @property
    def cancelled(self) -> bool:
        """Whether Dask wants nothing of it any more."""
        if self._worker is None:
            return False
        known = self._worker.state.tasks.get(self._key)
        return known is None or known.state == "cancelled"


@dataclass(slots=True)
class _Loaded:
    """A code whose files lie in a folder, with its modules while they are put aside."""

    code: Code
    folder: str
    modules: dict[str, types.ModuleType]
    _here: tuple[str, ...] = ()
    """The modules of its names in ``sys.modules``, whosoever they are."""
    _mark: tuple[int, str] = (0, "")
    """How ``sys.modules`` was when it held these."""

    def taken(self) -> dict[str, types.ModuleType]:
        """Take the modules of its names out of ``sys.modules``, those below them included."""
        # A look through all of them takes a millisecond.
        if _modules_now() != self._mark:
            wanted = set(self.code.names)
            self._here = tuple(n for n in list(sys.modules) if n.partition(".")[0] in wanted)
        return {name: sys.modules.pop(name) for name in self._here if name in sys.modules}

    def put(self, modules: dict[str, types.ModuleType]) -> None:
        """Put modules of its names into ``sys.modules``, where none is."""
        sys.modules.update(modules)
        self._here, self._mark = tuple(modules), _modules_now()


class Store:
    """The codes of one process."""

    def __init__(self) -> None:
        self.home = ""
        """The process's own name, if it ships code itself."""
        self.current: contextvars.ContextVar[Code] = contextvars.ContextVar("code")
        self.overtake = OVERTAKE
        """That of this process, in seconds."""
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        """Told when fewer calls run."""
        self._folder: Path | None = None
        self._codes: dict[str, _Loaded] = {}
        self._active: _Loaded | None = None
        self._later: Code | None = None
        """The code that is used again when no call runs any more."""
        self._calls: list[_Call] = []
        self._plain: set[_Call] = set()
        """Calls without modules of their own."""
        self._foreign: dict[str, types.ModuleType] = {}
        self._waiting: dict[str, float] = {}

    def keep(self, bundle: str, packed: bytes, parent: str) -> None:
        """Write an archive down, in a folder that only this user may read."""
        with self._lock:
            if self._folder is None or not self._folder.is_dir():
                Path(parent).mkdir(parents=True, exist_ok=True)
                self._folder = Path(tempfile.mkdtemp(prefix="code-", dir=parent))
            file = self._folder / f"{bundle}.zip"
            if not file.exists():
                fresh = file.with_suffix(".new")
                fresh.write_bytes(packed)
                fresh.replace(file)

    def drop(self, bundle: str) -> None:
        """Delete an archive; codes that were unpacked from it stay."""
        with self._lock:
            if self._folder is not None:
                (self._folder / f"{bundle}.zip").unlink(missing_ok=True)

    def prefer(self, code: Code) -> None:
        """Use a code for imports outside of flow runs, once no call needs another one."""
        with self._lock:
            if not self._has(code):
                return
            if self._calls and self._active_id != code.id:
                self._later = code
            else:
                self._use(code)

    def enter(self, code: Code) -> _Call:
        """Use a code for one call, until `leave`.

        One without modules neither waits nor is waited for: it has the process to itself if
        nobody else runs, and else finds what is there.
        """
        call = _Call()
        with self._lock:
            if not code.id:
                if not self._calls:
                    self._use(code)
                self._plain.add(call)
                return call
            if self._calls and self._active_id != code.id:
                self._wait(code)
            self._waiting.pop(code.id, None)
            self._use(code)
            self._calls.append(call)
        return call

    def leave(self, call: _Call) -> None:
        """Note that a call is over."""
        with self._lock:
            self._plain.discard(call)
            # One that was overtaken does not count any more.
            if call in self._calls:
                self._calls.remove(call)
            if self._calls or self._plain:
                self._turn.notify_all()
                return
            later, self._later = self._later, None
            if later is not None:
                with contextlib.suppress(RuntimeError):  # Whoever needs it hears why.
                    self._use(later)
            self._turn.notify_all()

    @property
    def _active_id(self) -> str:
        return self._active.code.id if self._active is not None else ""

    def _wait(self, code: Code) -> None:
        """Wait until a code has its turn."""
        since = self._waiting.setdefault(code.id, time.monotonic())
        if not self._turn.wait_for(lambda: self._has_turn(code, since), TURN):
            raise Reschedule

    def _has_turn(self, code: Code, since: float) -> bool:
        if not self._calls or self._active_id == code.id:
            return True
        if time.monotonic() - since > self.overtake and all(c.cancelled for c in self._calls):
            self._calls.clear()
            return True
        return False

    def _has(self, code: Code) -> bool:
        here = self._folder
        return code.id in self._codes or (
            here is not None and all((here / f"{b}.zip").exists() for b in code.bundles)
        )

    def _use(self, code: Code) -> None:
        if self._active_id == code.id:
            if self._active is not None:
                self._active.code = code
            return
        if not code.id:
            self._later = self._later or (self._active.code if self._active else None)
            self._put_aside()
            return
        loaded = self._codes.pop(code.id, None)
        if loaded is None or not Path(loaded.folder).is_dir():
            loaded = _Loaded(code, self._unpacked(code), {})
        self._put_aside()
        loaded.code = code
        # The one used last comes last.
        self._codes[code.id] = self._active = loaded
        self._foreign = loaded.taken()
        loaded.put(loaded.modules)
        loaded.modules = {}
        sys.path.insert(0, loaded.folder)
        for old in list(self._codes.values())[:-KEPT_CODES]:
            del self._codes[old.code.id]
            sys.path_importer_cache.pop(old.folder, None)
            shutil.rmtree(old.folder, ignore_errors=True)

    def _put_aside(self) -> None:
        active, self._active = self._active, None
        if active is None:
            return
        active.modules = active.taken()
        active.put(self._foreign)
        self._foreign = {}
        with contextlib.suppress(ValueError):
            sys.path.remove(active.folder)

    def _unpacked(self, code: Code) -> str:
        if self._folder is None or not self._has(code):
            raise RuntimeError(
                f"this worker has not got the code of this flow run ({', '.join(code.names)}); "
                "look for the reason in its log, and run the flow again"
            )
        try:
            fresh = tempfile.mkdtemp(dir=self._folder)
            for bundle in code.bundles:
                with zipfile.ZipFile(self._folder / f"{bundle}.zip") as archive:
                    archive.extractall(fresh)
        except OSError as error:
            raise RuntimeError(
                f"the worker cannot unpack the code of this flow run ({error}); make room in "
                f"{self._folder}"
            ) from error
        return fresh


class Bundle(WorkerPlugin):
    """An archive of files, which each worker that is there or comes later writes down."""

    idempotent = True

    def __init__(self, digest: str, packed: bytes, owner: str) -> None:
        self.name = f"{PREFIX}{digest}"
        self.digest = digest
        self.packed = packed
        self.owner = owner

    def setup(self, worker: Any) -> None:
        """Write the archive down; Dask calls it on each worker."""
        if (store := store_here()).home != self.owner:
            store.keep(self.digest, self.packed, worker.local_directory)
            self.packed = b""

    def teardown(self, worker: Any) -> None:
        """Delete the archive; Dask calls it when the plugin is taken back, or the worker ends."""
        del worker
        store_here().drop(self.digest)


class Current(WorkerPlugin):
    """Says which code is imported outside of flow runs."""

    def __init__(self, code: Code) -> None:
        self.name = CURRENT
        self.code = code

    def setup(self, worker: Any) -> None:
        """Use it from now on; Dask calls it on each worker."""
        del worker
        if (store := store_here()).home != self.code.owner:
            store.prefer(self.code)


def store_here() -> Store:
    """Give the one store of this process, whichever copy of this module asks, of any version."""
    holder = sys.modules.get("_daskenv_code")
    if holder is None:
        fresh = types.ModuleType("_daskenv_code")
        vars(fresh)["store"] = Store()
        holder = sys.modules.setdefault("_daskenv_code", fresh)
    store: Store = vars(holder)["store"]
    return store


def current_code() -> Code:
    """Give the code of the call that runs here, for the calls that it submits itself."""
    return store_here().current.get(Code())


def packed(files: dict[str, bytes]) -> bytes:
    """Pack files into an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for place, content in files.items():
            # Without a time of its own, equal files make equal archives.
            archive.writestr(zipfile.ZipInfo(place), content, zipfile.ZIP_DEFLATED, 1)
    return buffer.getvalue()


def claim(dask_scheduler: Any, client: str, wanted: list[str]) -> dict[str, list[str]]:
    """Note on the scheduler which plugins a client needs, and say which are missing or unused."""
    held: dict[str, set[str]] = dask_scheduler.__dict__.setdefault("daskenv_code", {})
    plugins = dask_scheduler.worker_plugins
    for name in [name for name in held if name not in plugins and name not in wanted]:
        del held[name]
    for users in held.values():
        users.intersection_update(dask_scheduler.clients)
        users.discard(client)
    for name in wanted:
        # Those used last come last.
        held[name] = {*held.pop(name, set()), client}
    unused, kept = [], 0
    for name in reversed([name for name, users in held.items() if not users]):
        kept += len(plugins[name])
        if kept > KEPT:
            unused.append(name)
    return {"missing": [name for name in wanted if name not in plugins], "unused": unused}


def _modules_now() -> tuple[int, str]:
    """Tell, in short, what ``sys.modules`` holds: what is imported comes last in it."""
    return len(sys.modules), next(reversed(sys.modules))


cloudpickle.register_pickle_by_value(sys.modules[__name__])
