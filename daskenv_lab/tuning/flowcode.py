"""The flow's own code in a simulation: it works, waits and sends, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskenv_lab.tuning.work import Step


class FlowCode:
    """Where the flow's own code is.

    Parameters
    ----------
    steps : sequence of Step
        What it does.
    n_nodes : int
        The number of nodes that it may wait for.
    """

    def __init__(self, steps: Sequence[Step], n_nodes: int) -> None:
        self.alone = 0.0
        """Seconds for which it worked while no task ran."""

        self.done = False
        self._steps = steps
        self._step = 0
        self._awaited = bytearray(n_nodes)
        self._pending = 0
        self._since: float | None = None

    @property
    def works(self) -> bool:
        """Whether it works now, and does not wait."""
        return self._since is not None

    def begin(self, now: float, *, tasks_run: bool) -> float | None:
        """Begin the next step, and give the seconds that it works; None after the last."""
        if self._step >= len(self._steps):
            self.done = True
            return None
        self.count(now, tasks_run=tasks_run)
        self._since = now
        return self._steps[self._step].seconds

    def waits(self, now: float, ended: Sequence[int], *, tasks_run: bool) -> bool:
        """End the step's work, and tell whether there is something to wait for."""
        self.count(now, tasks_run=tasks_run)
        self._since = None
        for node in self._steps[self._step].waits:
            if not ended[node] and not self._awaited[node]:
                self._awaited[node] = 1
                self._pending += 1
        return self._pending > 0

    def goes_on(self, node: int) -> bool:
        """Take note of a node that ended, and tell whether it was the last to wait for."""
        if not self._awaited[node]:
            return False
        self._pending -= 1
        return not self._pending

    def sends(self) -> tuple[int, ...]:
        """End the step, and give what it sends."""
        self._step += 1
        return self._steps[self._step - 1].sends

    def count(self, now: float, *, tasks_run: bool) -> None:
        """Count the time since the last change, if it worked and no task ran."""
        if self._since is not None:
            if not tasks_run:
                self.alone += now - self._since
            self._since = now
