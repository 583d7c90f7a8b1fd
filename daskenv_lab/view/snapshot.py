"""How a named cluster is at one moment, as panels show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dask.utils import format_bytes

from daskenv_lab.environments import DaskCloudProviderEnvironment, DaskGatewayEnvironment
from daskenv_lab.environments.gateway import EMBEDDED
from daskenv_lab.phrases import many, span

if TYPE_CHECKING:
    from daskenv_lab.cluster import ClusterInfo, WorkerInfo
    from daskenv_lab.environments import Environment
    from daskenv_lab.prices import Rate

State = Literal["looking", "none", "starting", "running", "gone", "unreachable"]

MOST_ROWS = 25
"""Workers that a table shows; with more, those that hold the most memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look at a cluster.

    Examples
    --------
    >>> Snapshot(name="dev", state="none").headline
    'dev: no cluster has this name; start one'
    """

    name: str
    state: State
    info: ClusterInfo | None = None
    environment: Environment | None = None
    rate: Rate | None = None
    """What it costs, where that is known."""

    sentence: str = ""
    """What is being waited for, or what is wrong."""

    @property
    def running(self) -> bool:
        """Whether there is a cluster that answers."""
        return self.state == "running" and self.info is not None

    @property
    def headline(self) -> str:
        """Where it is, whose it is, what it costs an hour, and when it ends by itself."""
        if self.info is None or self.state != "running":
            told = {
                "looking": "looking for it",
                "none": "no cluster has this name; start one",
                "starting": "it starts",
            }
            return f"{self.name}: {self.sentence or told.get(self.state, self.state)}"
        facts = [f"{self.name}: {self.size}", f"on {self.place}"]
        if self.info.owner:
            facts.append(f"owned by {self.info.owner}")
        facts += [self.cost, self.end]
        return ", ".join(fact for fact in facts if fact)

    @property
    def size(self) -> str:
        """How many workers there are, and how many were asked for."""
        if self.info is None:
            return "no workers"
        there = many(self.info.n_workers, "worker")
        if self.info.adaptive:
            low, high = self.info.adaptive
            return f"{there} (adaptive, {low} to {'any number' if high is None else high})"
        wanted = self.info.requested
        if wanted is not None and wanted != self.info.n_workers:
            return f"{self.info.n_workers} of {many(wanted, 'worker')}"
        return there

    @property
    def place(self) -> str:
        """Where the cluster is, in words."""
        environment = self.environment
        if isinstance(environment, DaskGatewayEnvironment):
            address = environment.gateway_address
            return "the embedded Gateway" if address == EMBEDDED else f"the Gateway at {address}"
        if isinstance(environment, DaskCloudProviderEnvironment):
            if not environment.short_name:
                return environment.provider_class
            kind = {"fargate": "AWS Fargate", "ecs": "AWS ECS"}[environment.short_name]
            return f"{kind} (rehearsed on this machine)" if environment.rehearse else kind
        return (self.info and self.info.scheduler_address) or "its scheduler"

    @property
    def cost(self) -> str:
        """What it costs an hour, where that is known."""
        if self.rate is None or self.info is None:
            return ""
        hourly = self.rate.hourly(self.info.n_workers)
        return f"${hourly:.2f} an hour ({self.rate.source})" if hourly else "costs nothing"

    @property
    def end(self) -> str:
        """When it ends by itself."""
        if self.info is None or self.info.stops_in is None:
            return ""
        return f"ends by itself in {span(self.info.stops_in)} if nobody uses it"

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """The live figures, a word and a value each."""
        info = self.info
        if info is None:
            return ()
        held = sum(worker.memory for worker in info.workers)
        limit = sum(worker.memory_limit for worker in info.workers)
        tasks = ", ".join(f"{n:,} {state}" for state, n in sorted(info.tasks.items()) if n)
        cpu = sum(worker.cpu for worker in info.workers)
        return (
            ("workers", self.size),
            ("threads", f"{info.nthreads:,}"),
            ("memory", format_bytes(held) + (f" of {format_bytes(limit)}" if limit else "")),
            ("CPU", f"{cpu:.0f} % of {many(info.nthreads, 'thread')}"),
            ("tasks", tasks or "none"),
            ("results", format_bytes(sum(worker.stored for worker in info.workers))),
        )

    @property
    def workers(self) -> tuple[WorkerInfo, ...]:
        """The workers of the table: all, or those that hold the most memory."""
        found = self.info.workers if self.info else ()
        if len(found) <= MOST_ROWS:
            return found
        return tuple(sorted(found, key=lambda w: w.memory, reverse=True)[:MOST_ROWS])

    @property
    def left_out(self) -> int:
        """How many workers the table does not show."""
        return max(0, (self.info.n_workers if self.info else 0) - MOST_ROWS)
