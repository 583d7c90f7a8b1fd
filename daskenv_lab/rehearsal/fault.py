"""Faults that a rehearsal commits when it is told to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from daskenv_lab.errors import EnvironmentValueError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

FAULT_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "throttle": "the call is refused with ThrottlingException",
        "server-error": "the call is answered with a 500",
        "denied": "the call is refused for want of permission",
        "down": "the connection is dropped without an answer",
        "slow": "the call takes effect and is answered `seconds` later, its caller there or not",
        "hold-before": "the call waits `seconds` and takes effect; if its caller hangs up, never",
        "hold-after": "the call takes effect, and is answered `seconds` later",
        "no-interface": "RunTask places a task less: RESOURCE:ENI",
        "no-capacity": "RunTask places a task less: Capacity is unavailable at this time",
        "no-image": "the image of a task that starts cannot be pulled",
        "spot": "running tasks are taken back, as Spot does, at once",
    }
)
"""What can be ordered, and what it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, for the next calls or tasks that it fits, or until `clear`.

    Raises
    ------
    EnvironmentValueError
        A field cannot be used.

    Examples
    --------
    >>> Fault(kind="throttle", operation="ecs:RunTask", times=2).kind
    'throttle'
    >>> Fault(kind="throtle")
    Traceback (most recent call last):
    daskenv_lab.errors.EnvironmentValueError: no fault is called 'throtle'; did you mean 'throttle'?
    """

    kind: str
    """One of `FAULT_KINDS`."""
    operation: str = "*"
    """Which calls, as ``service:Operation``; ``*`` and ``?`` stand for what they do in a shell."""
    times: int | None = None
    """How often, or None for until it is cleared. For RunTask's failures it counts tasks."""
    after: int = 0
    """How many fitting calls or tasks pass unharmed before."""
    seconds: float = 0.0
    """How long, for ``slow`` and ``hold-...``."""
    image: str = "*"
    """Which images, for ``no-image``."""
    task: str = "*"
    """Which tasks, by ARN or family, for ``spot``."""
    capacity_provider: str = "*"
    """Which capacity provider, for ``no-capacity``: FARGATE, FARGATE_SPOT, EC2."""

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise EnvironmentValueError(
                f"no fault is called {self.kind!r}; {did_you_mean(self.kind, FAULT_KINDS)}"
            )
        if (self.times is not None and self.times < 1) or self.after < 0 or self.seconds < 0:
            raise EnvironmentValueError(
                f"a fault takes times from 1 upwards (or None), after and seconds from 0 upwards, "
                f"and was given times={self.times}, after={self.after}, seconds={self.seconds}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Give the fields, for the server."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Take what `to_dict` gave."""
        return cls(**{f.name: told[f.name] for f in fields(cls) if f.name in told})
