"""Stopping a flow run from elsewhere: another kernel, a panel, or Jupyter Server."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.states import Cancelled

from daskenv_lab.flows.events import feed_of
from daskenv_lab.flows.interrupt import Interruptible

if TYPE_CHECKING:
    from collections.abc import Iterator

    import distributed
    from prefect.client.schemas.objects import State


WAKE = 0.5
"""Seconds after which a thread that was interrupted is woken, in case it did not hear of it."""


class FlowCall(Interruptible):
    """The call of a flow, which a stop ends as Ctrl-C would.

    Parameters
    ----------
    wakeable : bool
        Whether SIGURG wakes the thread, and does nothing else.
    """

    raises: ClassVar[type[BaseException]] = KeyboardInterrupt

    def __init__(self, *, wakeable: bool) -> None:
        super().__init__()
        self._wakeable = wakeable

    def _raise_in_thread(self) -> None:
        main = threading.main_thread().ident
        heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if main is not None and self._thread == main and heard and hasattr(signal, "pthread_kill"):
            # Unlike an exception that is set, it ends a sleep too.
            signal.pthread_kill(main, signal.SIGINT)
            if self._wakeable:
                threading.Thread(target=self._wake, args=(main,), daemon=True).start()
        else:
            super()._raise_in_thread()

    def _wake(self, thread: int) -> None:
        """Break what the thread began to wait for just as it was interrupted.

        Python looks for signals between calls into C, and when a wait is broken off. One that
        comes before the wait begins is not heard until its end, or until the next one comes.
        """
        while True:
            time.sleep(WAKE)
            with self._lock:
                if self._thread is None:
                    return
                signal.pthread_kill(thread, signal.SIGURG)


@contextlib.contextmanager
def _woken() -> Iterator[bool]:
    """Let SIGURG wake this thread meanwhile, if it is the main one and nobody else uses that."""
    main = threading.current_thread() is threading.main_thread()
    unix = main and hasattr(signal, "SIGURG")
    if not unix or signal.getsignal(signal.SIGURG) is not signal.SIG_DFL:
        yield False
        return
    signal.signal(signal.SIGURG, lambda *_: None)
    try:
        yield True
    finally:
        signal.signal(signal.SIGURG, signal.SIG_DFL)


@contextlib.contextmanager
def stoppable(client: distributed.Client) -> Iterator[FlowCall]:
    """Let `Connection.stop_flow_runs` of the client's cluster end what this thread does inside."""
    stops = feed_of(client).stops
    with _woken() as wakeable:
        call = FlowCall(wakeable=wakeable)
        stops.add(call.stop)
        try:
            yield call
        finally:
            stops.discard(call.stop)
            call.over()


def cancelled(flow_run_id: str | None) -> State[Any]:
    """Give the state of a flow run that was stopped, and tell it to the API.

    Parameters
    ----------
    flow_run_id : str, optional
        Without it nothing is told: the flow run sent no task run, and its id is not known here.
    """
    state: State[Any] = Cancelled(message="stopped by its user")
    if flow_run_id is not None:
        state.state_details.flow_run_id = UUID(flow_run_id)
        with get_client(sync_client=True) as client:
            # Prefect's engine knows an interruption only, and has told that it crashed.
            client.set_flow_run_state(UUID(flow_run_id), state, force=True)
    return state
