"""Showing a flow run while it goes on; a command line's standard output stays clean."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

from daskenv_lab.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskenv_lab.flows.events import TaskEvent


class Progress(Protocol):
    """What shows a flow run; the methods are called from several threads."""

    def say(self, sentence: str) -> None:
        """Show what is being waited for."""
        ...

    def note(self, sentence: str) -> None:
        """Show what is worth reading later."""
        ...

    def task(self, event: TaskEvent) -> None:
        """Show what happened to a task run."""
        ...

    def close(self) -> None:
        """End the display."""
        ...


class Silent:
    """Shows nothing."""

    def say(self, sentence: str) -> None:
        """Show nothing."""

    def note(self, sentence: str) -> None:
        """Show nothing."""

    def task(self, event: TaskEvent) -> None:
        """Show nothing."""

    def close(self) -> None:
        """End nothing."""


class Lines(Silent):
    """Hands sentences to a function, and one about the task runs when they are over."""

    def __init__(self, write: Callable[[str], Any] | None = None) -> None:
        self._write = write or Waiting(sys.stderr, updating=False)
        self._known: set[str] = set()
        self._over: set[str] = set()
        self._failed: set[str] = set()

    def say(self, sentence: str) -> None:
        """Hand the sentence on."""
        self._write(sentence)

    def note(self, sentence: str) -> None:
        """Hand the sentence on."""
        self._write(sentence)

    def task(self, event: TaskEvent) -> None:
        """Count the task run."""
        self._known.add(event.id)
        if event.what == "ended":
            self._over.add(event.id)
            if event.state not in ("Completed", "Cached"):
                self._failed.add(event.id)

    def close(self) -> None:
        """Tell how many task runs ended, and how."""
        if self._known:
            bad = f", {len(self._failed)} not completed" if self._failed else ""
            self._write(f"{len(self._over)} of {len(self._known)} task runs ended{bad}")


class Bar(Lines):
    """A bar of task runs, whose total grows as the flow submits more."""

    def __init__(self) -> None:
        # A notebook paints everything on standard error red.
        notebook = "ipykernel" in sys.modules
        self._stream = sys.stdout if notebook else sys.stderr
        self._waiting = Waiting(self._stream, updating=True)
        super().__init__(self._waiting)
        self._bar: Any = None
        self._lock = threading.Lock()

    def note(self, sentence: str) -> None:
        """Write a line that stays."""
        with self._lock:
            self._waiting.clear()
            print(sentence, file=self._stream, flush=True)

    def task(self, event: TaskEvent) -> None:
        """Move the bar."""
        with self._lock:
            super().task(event)
            if self._bar is None:
                from tqdm.auto import tqdm

                self._waiting.clear()
                self._bar = tqdm(total=0, unit="task", file=sys.stderr, leave=True)
            self._bar.total = len(self._known)
            self._bar.n = len(self._over)
            if event.what == "ended":
                failed = {"failed": len(self._failed)} if self._failed else {}
                self._bar.set_postfix(last=event.name, **failed, refresh=False)
            self._bar.update(0)

    def close(self) -> None:
        """Leave the bar as it is."""
        with self._lock:
            self._waiting.clear()
            if self._bar is not None:
                self._bar.refresh()
                self._bar.close()


def progress_of(chosen: Any) -> Progress:
    """Give the display for what a caller chose.

    Parameters
    ----------
    chosen : Progress, callable, bool or None
        A display of the caller's; a function that takes sentences; False for none; None or
        True for a bar in a notebook or terminal, and lines elsewhere.
    """
    if chosen is False:
        return Silent()
    if chosen is None or chosen is True:
        return Bar() if _interactive() else Lines()
    if hasattr(chosen, "task") and hasattr(chosen, "say"):
        shown: Progress = chosen
        return shown
    return Lines(chosen)


def _interactive() -> bool:
    return "ipykernel" in sys.modules or sys.stderr.isatty()
