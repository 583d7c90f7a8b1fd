"""Values about clusters: which one, what it is made of, and how it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRef:
    """Where a cluster is found again, without any secret.

    Examples
    --------
    >>> ClusterRef(provider="gateway", id="8f3e", location="https://gateway.example.org").id
    '8f3e'
    """

    provider: str
    """The provider's word for itself: ``local``, ``gateway``, ``process``, ``remote``."""

    id: str
    """The provider's own name for the cluster."""

    location: str = ""
    """Where the provider is: an address or a file."""

    def to_dict(self) -> dict[str, str]:
        """Write the reference down in JSON's types."""
        return {"provider": self.provider, "id": self.id, "location": self.location}

    @classmethod
    def from_dict(cls, written: Mapping[str, str]) -> Self:
        """Make the reference that `to_dict` wrote down."""
        return cls(provider=written["provider"], id=written["id"], location=written["location"])


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One worker as its scheduler last heard of it."""

    address: str
    name: str
    nthreads: int
    memory_limit: int
    """Bytes; 0 means no limit."""

    memory: int
    """Bytes of the process."""

    cpu: float
    """Per cent of one core."""

    tasks: int
    """Tasks that it works on or has been given."""

    stored: int = 0
    """Bytes of the results that it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterInfo:
    """How a cluster is.

    Examples
    --------
    >>> ref = ClusterRef(provider="local", id="8f3e")
    >>> ClusterInfo(ref=ref, status="running").n_workers
    0
    """

    ref: ClusterRef
    status: str
    """``pending``, ``running``, ``stopping``, ``stopped``, ``failed`` or ``gone``."""

    name: str | None = None
    """The name that we gave it; None for a cluster that is not ours."""

    owner: str | None = None
    """``user@host`` of whoever made it."""

    fingerprint: str | None = None
    """The fingerprint of the environment that it was made from."""

    held: bool | None = None
    """Whether a name still holds it; None when nobody can tell."""

    scheduler_address: str | None = None
    dashboard_link: str | None = None
    started_at: datetime | None = None
    idle_since: datetime | None = None
    """Since when the scheduler has had no tasks; None while it has some."""

    requested: int | None = None
    """The number of workers asked for."""

    adaptive: tuple[int, int | None] | None = None
    """The bounds of adaptive scaling, or None when it is off."""

    target: int | None = None
    """The number of workers that adaptive scaling asks for at present, or None when it is off."""

    adaptive_holder: str | None = None
    """Who lets the number of workers follow the load, where that is one of several sessions."""

    stops_in: float | None = None
    """Seconds until the cluster ends by itself, if nobody uses it; None when nobody can tell."""

    clients: int = 0
    """Connected clients, without the one that asks."""

    tasks: Mapping[str, int] = field(default_factory=dict)
    """Number of tasks by Dask's state."""

    workers: tuple[WorkerInfo, ...] = ()

    @property
    def n_workers(self) -> int:
        """Number of workers that are there."""
        return len(self.workers)

    @property
    def nthreads(self) -> int:
        """Number of threads of all workers."""
        return sum(w.nthreads for w in self.workers)

    @property
    def uptime(self) -> float | None:
        """Seconds since the cluster started."""
        return None if self.started_at is None else _since(self.started_at)

    @property
    def idle(self) -> float:
        """Seconds without tasks; 0 while there are some."""
        return 0.0 if self.idle_since is None else _since(self.idle_since)

    def to_dict(self) -> dict[str, Any]:
        """Write everything down in JSON's types, for ``--json``."""
        written = asdict(self)
        written["ref"] = self.ref.to_dict()
        for key in ("started_at", "idle_since"):
            written[key] = written[key].isoformat() if written[key] else None
        written["adaptive"] = list(self.adaptive) if self.adaptive else None
        written["workers"] = [asdict(w) for w in self.workers]
        written["uptime"] = self.uptime
        return written


def _since(moment: datetime) -> float:
    return max(0.0, (datetime.now(UTC) - moment).total_seconds())
