"""The faults that were ordered, and which call or task each of them hits."""

from __future__ import annotations

import fnmatch
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daskenv_lab.rehearsal.fault import Fault


@dataclass(slots=True)
class _Standing:
    fault: Fault
    pass_by: int
    left: int | None


class Orders:
    """Faults in the order in which they were given."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._standing: list[_Standing] = []

    def add(self, fault: Fault) -> None:
        """Take an order."""
        with self._lock:
            self._standing.append(_Standing(fault, fault.after, fault.times))

    def clear(self) -> None:
        """Forget all orders."""
        with self._lock:
            self._standing.clear()

    def listed(self) -> list[Fault]:
        """List what is left of the orders."""
        with self._lock:
            return [replace(s.fault, after=s.pass_by, times=s.left) for s in self._standing]

    def on_call(self, call: str) -> list[Fault]:
        """Give the faults that hit a call, ``service:Operation``, and count it."""
        kinds = ("throttle", "server-error", "denied", "down", "slow", "hold-before", "hold-after")
        with self._lock:
            return [
                s.fault
                for s in list(self._standing)
                if s.fault.kind in kinds
                and fnmatch.fnmatchcase(call, s.fault.operation)
                and self._strikes(s)
            ]

    def on_image(self, image: str) -> bool:
        """Tell whether an image cannot be pulled, and count it."""
        return self._one("no-image", lambda fault: fnmatch.fnmatchcase(image, fault.image))

    def on_placement(self, provider: str) -> str | None:
        """Give the reason why a task cannot be placed, if it cannot, and count it."""
        if self._one("no-interface", lambda _: True):
            return "RESOURCE:ENI"
        if self._one(
            "no-capacity", lambda fault: fnmatch.fnmatchcase(provider, fault.capacity_provider)
        ):
            return (
                "Capacity is unavailable at this time. Please try again later or in a different "
                "availability zone"
            )
        return None

    def _one(self, kind: str, fits: object) -> bool:
        assert callable(fits)  # noqa: S101 - for the type checker
        with self._lock:
            # One fault is enough for one task; the next stays for the next.
            return any(
                s.fault.kind == kind and fits(s.fault) and self._strikes(s)
                for s in list(self._standing)
            )

    def _strikes(self, standing: _Standing) -> bool:
        if standing.pass_by > 0:
            standing.pass_by -= 1
            return False
        if standing.left is not None:
            standing.left -= 1
            if standing.left == 0:
                self._standing.remove(standing)
        return True
