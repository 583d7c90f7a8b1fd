"""A cluster's figures over time, as far as somebody watched."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daskenv_lab.view.snapshot import Snapshot

_MOST = 3600
"""Points that are kept: an hour at one each second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A cluster at one moment."""

    at: datetime
    """In UTC."""

    workers: int
    memory: int
    """Bytes of all workers' processes."""

    cpu: float
    """Per cent of one core, of all workers."""

    cost: float | None
    """US dollars since the cluster began, about; None where no price is known."""


class Trail:
    """The points of one cluster; another cluster of the same name begins anew.

    Examples
    --------
    >>> len(Trail().points)
    0
    """

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=_MOST)
        self._id = ""

    @property
    def points(self) -> tuple[Point, ...]:
        """The points, the oldest first."""
        return tuple(self._points)

    def add(self, snapshot: Snapshot) -> None:
        """Take note of a snapshot of a running cluster.

        What the cluster cost before the first point is taken as if it always had that size.
        """
        info = snapshot.info
        if info is None or not snapshot.running:
            return
        if info.ref.id != self._id:
            self._points.clear()
            self._id = info.ref.id
        now = datetime.now(UTC)
        cost = None
        if snapshot.rate is not None:
            hourly = snapshot.rate.hourly(info.n_workers)
            last = self._points[-1] if self._points else None
            known = last is not None and last.cost is not None
            seconds = (now - last.at).total_seconds() if last and known else info.uptime or 0.0
            cost = ((last.cost or 0.0) if last and known else 0.0) + hourly * seconds / 3600
        self._points.append(
            Point(
                at=now,
                workers=info.n_workers,
                memory=sum(worker.memory for worker in info.workers),
                cpu=sum(worker.cpu for worker in info.workers),
                cost=cost,
            )
        )
