"""The view model: one named cluster, what can be done with it, and what came of that.

Nothing here waits in the caller's thread and nothing here knows a widget. Each action is one
`Call`, made in a thread of its own; whoever shows it listens, and reads `snapshot` and `said`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from daskenv_lab import config, history, lifecycle, registry
from daskenv_lab.errors import ClusterGone, DaskEnvLabError, UnknownNameError
from daskenv_lab.providers import provider_for
from daskenv_lab.session import opened
from daskenv_lab.view.offers import Offers
from daskenv_lab.view.runs import RunProgress, outcome
from daskenv_lab.view.snapshot import Snapshot
from daskenv_lab.view.trail import Trail

if TYPE_CHECKING:
    from daskenv_lab.registry import Record
    from daskenv_lab.session import Session
    from daskenv_lab.view.call import Call

_log = logging.getLogger("daskenv_lab")

Listener = Callable[[str], None]
"""Told what changed: ``snapshot``, ``runs``, ``progress``, ``offers``, or a control's name.

Called in any thread.
"""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of a control's last call."""

    code: str
    """The Python call."""

    busy: bool = False
    sentence: str = ""
    """What it waits for, what it gave, or why it failed."""

    failed: bool = False


class Lab:
    """What panels show of one named cluster, and do with it.

    There is one for each name in a process (`lab_of`), so that two panels show the same.

    Examples
    --------
    >>> lab = lab_of("dev")  # doctest: +SKIP
    >>> lab.snapshot.headline  # doctest: +SKIP
    'dev: 2 workers, on the embedded Gateway, costs nothing'
    """

    def __init__(self, name: str) -> None:
        self.name = config.cluster_name(name)
        self.snapshot = Snapshot(name=self.name, state="looking")
        self.said: dict[str, Said] = {}
        """What came of each control, by its name."""

        self.trail = Trail()
        self.progress: RunProgress | None = None
        """How far the last run is that was begun here."""

        self.offers = Offers(lambda: self._tell("offers"))
        self._listeners: list[Listener] = []
        self._newest = ""
        self._rates: dict[str, Any] = {}
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tell a listener of each change, from now on; gives the function that ends it.

        The cluster is looked at while somebody listens.
        """
        with self._lock:
            self._listeners.append(listener)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name=f"daskenv-panel-{self.name}", daemon=True
                )
                self._thread.start()

        def end() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._listeners.remove(listener)
            self._wake.set()

        return end

    def do(self, control: str, call: Call, *, then: Callable[[Any], str] | None = None) -> None:
        """Make a control's call in a thread; its outcome is in `said`, and listeners hear of it.

        Parameters
        ----------
        control : str
            The control's name. While its last call goes on, another is not made.
        call : Call
            What it does.
        then : callable, optional
            Gets what the call gave, and says it in a sentence.
        """
        with self._lock:
            before = self.said.get(control)
            if before is not None and before.busy:
                return
            self.said[control] = Said(call.code, busy=True)
        self._tell(control)
        threading.Thread(target=self._do, args=(control, call, then), daemon=True).start()

    def run(self, call: Call) -> None:
        """Make a call that runs a flow; how far it is, is in `progress`."""
        progress = RunProgress(lambda: self._tell("progress"))
        with self._lock:
            before = self.said.get("run")
            if before is not None and before.busy:
                return
            self.progress = progress
        self.do("run", replace(call, hidden={"_progress": progress}), then=outcome)

    def say(self, control: str, sentence: str, *, failed: bool = False) -> None:
        """Show a sentence under a control."""
        before = self.said.get(control)
        code, busy = (before.code, before.busy) if before else ("", False)
        self.said[control] = Said(code, busy=busy and not failed, sentence=sentence, failed=failed)
        self._tell(control)

    def session(self) -> Session:
        """Give this process's session of the name, connected.

        Raises
        ------
        UnknownNameError, ClusterGone
            There is none that runs.
        """
        session = opened(self.name)
        if session is not None and session.connection.open:
            return session
        return lifecycle.connect(self.name)

    def look(self) -> None:
        """Look at the cluster now, and not only when it is time again."""
        self._wake.set()

    def _do(self, control: str, call: Call, then: Callable[[Any], str] | None) -> None:
        try:
            gave = call.make()
            said = Said(call.code, sentence=then(gave) if then else "")
        except DaskEnvLabError as error:
            said = Said(call.code, sentence=str(error), failed=True)
        except Exception as error:  # noqa: BLE001 - a thread's error would be seen nowhere else
            _log.debug("a control failed", exc_info=True)
            said = Said(call.code, sentence=f"{type(error).__name__}: {error}", failed=True)
        self.said[control] = said
        self._tell(control)
        self.look()

    def _tell(self, what: str) -> None:
        for listener in list(self._listeners):
            try:
                listener(what)
            except Exception:  # noqa: BLE001 - one panel's fault is not the others'
                _log.exception("a panel could not show what changed")

    def _watch(self) -> None:
        while True:
            self._wake.clear()
            with self._lock:
                if not self._listeners:
                    self._thread = None
                    return
            if self._lost():
                self._show(
                    Snapshot(
                        name=self.name,
                        state="unreachable",
                        sentence="the connection was lost; looking whether it still runs",
                    )
                )
            snapshot = self._looked()
            self.trail.add(snapshot)
            self._show(snapshot)
            newest = history.newest()
            if newest != self._newest:
                self._newest = newest
                self._tell("runs")
            self._wake.wait(config.seconds("panel.interval"))

    def _show(self, snapshot: Snapshot) -> None:
        if snapshot != self.snapshot:
            self.snapshot = snapshot
            self._tell("snapshot")

    def _lost(self) -> bool:
        """Tell whether what is shown has to be connected to again, which may take long."""
        session = opened(self.name)
        return self.snapshot.running and session is not None and not session.connection.open

    def _looked(self) -> Snapshot:
        try:
            record = registry.read(self.name)
            if record is None:
                self._let_go()
                return Snapshot(name=self.name, state="none")
            if not record.ready:
                return Snapshot(name=self.name, state="starting", environment=record.environment)
            return self._asked(record)
        except UnknownNameError:
            return Snapshot(name=self.name, state="none")
        except ClusterGone as error:
            return Snapshot(name=self.name, state="gone", sentence=str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the panel says it and lives on
            return Snapshot(name=self.name, state="unreachable", sentence=str(error))

    def _let_go(self) -> None:
        """End the session of a cluster that was taken down elsewhere."""
        session = opened(self.name)
        if session is not None and not session.connection.open:
            session.close()

    def _asked(self, record: Record) -> Snapshot:
        session = self.session()
        environment = session.environment
        return Snapshot(
            name=self.name,
            state="running",
            info=session.info(),
            environment=environment,
            rate=self._rate(record.environment.fingerprint, environment),
        )

    def _rate(self, fingerprint: str, environment: Any) -> Any:
        """Give what it costs; worked out once for each environment."""
        if fingerprint not in self._rates:
            try:
                self._rates[fingerprint] = provider_for(environment).rate()
            except DaskEnvLabError as error:
                _log.warning("%s", error)
                self._rates[fingerprint] = None
        return self._rates[fingerprint]


_labs: weakref.WeakValueDictionary[str, Lab] = weakref.WeakValueDictionary()
_labs_lock = threading.Lock()


def lab_of(name: str | None = None) -> Lab:
    """Give the one view model of a name in this process.

    Raises
    ------
    ConfigError
        The name could not be a cluster's.
    """
    chosen = config.cluster_name(name)
    with _labs_lock:
        lab = _labs.get(chosen)
        if lab is None:
            lab = _labs[chosen] = Lab(chosen)
        return lab
