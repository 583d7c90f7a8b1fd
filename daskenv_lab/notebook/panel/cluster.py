"""The cluster that runs: its figures, its workers, and what can be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets
from dask.utils import format_bytes

from daskenv_lab.notebook.controls import Controls
from daskenv_lab.notebook.panel.parts import WIDE, CallButton, show, table, text
from daskenv_lab.phrases import many
from daskenv_lab.view.actions import actions
from daskenv_lab.view.call import Call

if TYPE_CHECKING:
    from daskenv_lab.view.lab import Lab
    from daskenv_lab.view.snapshot import Snapshot


_LONGEST_NAME = 12


class ClusterPart(widgets.VBox):  # type: ignore[misc]
    """Live figures, and the controls of a running cluster."""

    def __init__(self, lab: Lab, workers: int) -> None:
        self.lab = lab
        self.facts, self.workers = widgets.HTML(layout=WIDE), widgets.HTML(layout=WIDE)
        known = actions(lab.name, workers=workers)
        self.controls = Controls(lab, [known[word] for word in ("scale", "adapt", "down")])
        self.detach = CallButton(
            lab,
            "detach",
            "Detach",
            lambda: Call(what="detach", positional=(lab.name,)),
            then=lambda _: f"{lab.name} lives on; `daskenv_lab.reap()` removes it once idle.",
        )
        super().__init__([self.facts, self.workers, self.controls, self.detach])

    def heard(self, what: str) -> None:
        """Show what changed."""
        if what == "snapshot":
            snapshot = self.lab.snapshot
            show(self.facts, _facts(snapshot))
            show(self.workers, _workers(snapshot))
        self.controls.heard(what)
        self.detach.heard(what)


def _facts(snapshot: Snapshot) -> str:
    if not snapshot.facts:
        return text(snapshot.sentence or "No cluster runs under this name.", "waits")
    head, values = zip(*snapshot.facts, strict=True)
    return table(head, [[text(value) for value in values]])


def _workers(snapshot: Snapshot) -> str:
    if not snapshot.workers:
        return ""
    rows = [
        (
            text(_short(w.name)),
            text(w.nthreads),
            text(format_bytes(w.memory) + _limit(w.memory_limit)),
            text(f"{w.cpu:.0f} %"),
            text(w.tasks),
            text(w.address),
        )
        for w in snapshot.workers
    ]
    shown = table(("worker", "threads", "memory", "CPU", "tasks", "address"), rows)
    if snapshot.left_out:
        told = many(snapshot.left_out, "worker")
        shown += text(f"and {told} that hold less memory", "waits")
    return shown


def _short(name: str) -> str:
    """Cut a name that nobody gave; the address tells workers apart."""
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"


def _limit(memory_limit: int) -> str:
    return f" of {format_bytes(memory_limit)}" if memory_limit else ""
