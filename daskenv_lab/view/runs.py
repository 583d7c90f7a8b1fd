"""Flow runs as panels show them: the one that goes on, the last ones, and how they compare."""

from __future__ import annotations

import reprlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask.utils import format_bytes

from daskenv_lab.phrases import many

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daskenv_lab.flows.events import TaskEvent
    from daskenv_lab.report import FlowRunReport

_GOOD = ("Completed", "Cached")
_PAUSE = 0.25
"""Seconds between two changes that are told: a flow may have thousands of task runs."""


@dataclass(slots=True)
class TaskCount:
    """How far the runs of one task are."""

    known: int = 0
    over: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One flow run in the history."""

    flow: str
    name: str
    state: str
    duration: str
    started: str
    tasks: str
    memory: str
    url: str | None = None


class RunProgress:
    """Counts a flow run's task runs by task, as a `flows.progress.Progress`.

    Parameters
    ----------
    changed : callable
        Called, in any thread, whenever there is something new; it must be quick.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.sentence = ""
        self.notes: list[str] = []
        self._counts: dict[str, TaskCount] = {}
        self._states: dict[str, str] = {}
        self._changed = changed
        self._told = 0.0
        self._lock = threading.Lock()

    def say(self, sentence: str) -> None:
        """Take what is being waited for."""
        self.sentence = sentence
        self._changed()

    def note(self, sentence: str) -> None:
        """Take what is worth reading later."""
        self.notes.append(sentence)
        self._changed()

    def task(self, event: TaskEvent) -> None:
        """Count the task run."""
        with self._lock:
            count = self._counts.setdefault(event.task, TaskCount())
            before = self._states.get(event.id)
            if before is None:
                count.known += 1
            if event.what == "ended" and before != "ended":
                count.over += 1
                count.failed += event.state not in _GOOD
            if before != "ended":
                self._states[event.id] = event.what
            self.sentence = ""
            now = time.monotonic()
            due = now - self._told > _PAUSE
            self._told = now if due else self._told
        if due:
            self._changed()

    def close(self) -> None:
        """Tell the end."""
        self._changed()

    @property
    def counts(self) -> dict[str, TaskCount]:
        """How far each task's runs are, by the task's name, in the order of their first."""
        with self._lock:
            return dict(self._counts)


def outcome(report: FlowRunReport) -> str:
    """Say in one line what came of a flow run."""
    told = f"{report.flow_run_name}: {report.state} in {report.duration:.2f} s"
    if report.error is not None:
        return f"{told}; {type(report.error).__name__}: {report.error}"
    return f"{told}; result: {reprlib.repr(report.value)}" if report.ok else told


def rows(reports: Sequence[FlowRunReport]) -> list[Row]:
    """Give the history's rows."""
    return [
        Row(
            flow=report.flow,
            name=report.flow_run_name,
            state=report.state,
            duration=f"{report.duration:.2f} s",
            started=report.start.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            tasks=many(len(report.task_runs), "task run"),
            memory=format_bytes(max(report.peak_memory.values(), default=0)),
            url=report.url,
        )
        for report in reports
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure of the last run beside that of the one before, of the same flow."""

    figure: str
    last: str
    before: str
    change: str
    """In per cent of the one before, with its sign; empty where there is nothing to divide by."""


def compare(reports: Sequence[FlowRunReport]) -> list[Compared]:
    """Compare the newest run with the one before of the same flow; empty without one.

    Parameters
    ----------
    reports : sequence of FlowRunReport
        The newest first.

    Examples
    --------
    >>> compare([])
    []
    """
    if not reports:
        return []
    last = reports[0]
    before = next((r for r in reports[1:] if r.flow == last.flow), None)
    if before is None:
        return []
    figures = [_figures(last), _figures(before)]
    return [
        Compared(
            figure=figure,
            last=said(now),
            before=said(figures[1][figure][0]),
            change=_change(now, figures[1][figure][0]),
        )
        for figure, (now, said) in figures[0].items()
    ]


def _figures(report: FlowRunReport) -> dict[str, tuple[float, Callable[[float], str]]]:
    busy = [t.duration for t in report.task_runs if t.duration is not None]
    workers = max((n for _, n in report.cluster_size), default=0)
    return {
        "duration": (report.duration, _seconds),
        "task runs": (len(report.task_runs), _whole),
        "not completed": (sum(t.state not in _GOOD for t in report.task_runs), _whole),
        "time in tasks": (sum(busy), _seconds),
        "longest task run": (max(busy, default=0.0), _seconds),
        "workers": (workers, _whole),
        "bytes moved": (report.bytes_moved, _bytes),
        "peak memory": (max(report.peak_memory.values(), default=0), _bytes),
    }


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _bytes(value: float) -> str:
    return str(format_bytes(int(value)))


def _change(now: float, before: float) -> str:
    return f"{(now - before) / before:+.0%}" if before else ""
