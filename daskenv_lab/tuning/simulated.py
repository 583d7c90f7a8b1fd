"""What a simulation tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One node in the predicted run."""

    node: int
    worker: int
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What a simulated run took."""

    seconds: float
    """From the flow run's start to its end; infinite if it would not end."""

    fault: str | None
    """Why it would not end, in a sentence."""

    worker_seconds: float
    """Of all workers together, from when each was asked for."""

    busy_seconds: float
    """For which threads had tasks."""

    thread_seconds: float
    """For which threads were there."""

    transfer_seconds: float
    """By which fetching inputs delayed tasks."""

    crowded_seconds: float
    """By which tasks took longer, since workers share the cores of one machine."""

    client_seconds: float
    """For which the flow's own code worked while no task ran."""

    peak_memory: int
    """The most bytes of any worker."""

    spilled: int
    """Bytes moved to disk."""

    workers: tuple[tuple[float, float], ...]
    """From when each worker was asked for, until when it was there."""

    placed: tuple[Placed, ...]
    """Where each node ran, if that was asked for."""
