"""Who lets the number of workers follow the load: one process at a time, by a lease in the tags.

The process runs in the background of one machine and outlives the kernel that asked for it. The
bounds themselves stand in the scheduler's label, where each session may change them.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskenv_lab import config
from daskenv_lab.background import private_folder, read_record, recorded_process, spawn
from daskenv_lab.environments.codec import encode
from daskenv_lab.providers.fargate import fleet
from daskenv_lab.providers.fargate.tags import ADAPTIVE, allowed

if TYPE_CHECKING:
    from pathlib import Path

    from daskenv_lab.cluster import ClusterRef
    from daskenv_lab.environments import DaskCloudProviderEnvironment
    from daskenv_lab.providers.connection import Connection
    from daskenv_lab.providers.fargate.aws import Aws
    from daskenv_lab.providers.fargate.fleet import Task

HOLDER = "daskenv_lab.providers.fargate.adaptive_holder"
RECORD = "adaptive.json"
_FOLDER = "fargate-adaptive"
_END_LIMIT = 10.0
# The token and the moment must stay whole in a tag's 256 signs.
_LONGEST_HOLDER = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to scale one cluster by its load, until a moment.

    Examples
    --------
    >>> Lease.from_tag(Lease(holder="ada@here", token="8f3e", until=1.0).tag()).holder
    'ada@here'
    """

    holder: str
    token: str
    until: float
    """Seconds since 1970."""

    @property
    def valid(self) -> bool:
        """Whether it has not run out."""
        return time.time() < self.until

    def tag(self) -> str:
        """Write the lease as the value of a tag."""
        return allowed(f"{self.holder[:_LONGEST_HOLDER]} {self.token} {self.until:.0f}")

    @classmethod
    def from_tag(cls, value: str) -> Lease | None:
        """Read what `tag` wrote; None for anything else."""
        words = value.rsplit(" ", 2)
        if len(words) != 3 or not words[2].isdigit():
            return None
        return cls(holder=words[0], token=words[1], until=float(words[2]))


def lease_on(scheduler: Task) -> Lease | None:
    """Read the lease that a scheduler's task carries, if it is valid."""
    lease = Lease.from_tag(scheduler.tags.get(ADAPTIVE, ""))
    return lease if lease and lease.valid else None


def write(aws: Aws, scheduler: Task, lease: Lease) -> None:
    """Write a lease on a scheduler's task."""
    fleet.tag(aws, scheduler, {ADAPTIVE: lease.tag()})


def erase(aws: Aws, scheduler: Task) -> None:
    """Take the lease off a scheduler's task."""
    aws.call("ecs", "untag_resource", resourceArn=scheduler.arn, tagKeys=[ADAPTIVE])


def scheduler_of(aws: Aws, ecs_cluster: str, ref: ClusterRef) -> Task | None:
    """Find the scheduler's task of a cluster."""
    tasks = fleet.of_cluster(aws, ecs_cluster, f"daskenv/{ref.id}")
    return next((t for t in tasks if t.role == "scheduler" and t.wanted), None)


def hold(
    environment: DaskCloudProviderEnvironment, aws: Aws, ecs_cluster: str, connection: Connection
) -> None:
    """Have a background process follow the load, unless one on any machine does already.

    A lease of this owner's that no process here renews may be that of one that was killed: then
    the new one waits until it has run out.
    """
    scheduler = scheduler_of(aws, ecs_cluster, connection.ref)
    if scheduler is None:
        return
    lease = lease_on(scheduler)
    folder = private_folder(_folder(connection.ref))
    running = recorded_process(read_record(folder / RECORD))
    if running and (lease or ADAPTIVE not in scheduler.tags):
        return
    if running:
        running.kill()  # It is frozen, and has let its lease run out.
    if lease and lease.holder != allowed(config.owner()[:_LONGEST_HOLDER]):
        return
    order: dict[str, Any] = {
        # With the secrets in it, over the standard input, which nobody else can read.
        "arguments": encode(
            config.resolve_secrets(environment.without_hooks().arguments()),
            where="the environment",
        ),
        "ref": connection.ref.to_dict(),
        "ecs_cluster": ecs_cluster,
        # As it may be set in this process alone.
        "owner": config.owner(),
    }
    spawn(HOLDER, [str(folder)], folder=folder, order=json.dumps(order).encode())


def forget(ref: ClusterRef) -> None:
    """End this machine's process that follows a cluster's load, if there is one."""
    folder = _folder(ref)
    holder = recorded_process(read_record(folder / RECORD))
    if holder is not None and not holder.terminate(_END_LIMIT):
        holder.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _folder(ref: ClusterRef) -> Path:
    return config.state_dir() / _FOLDER / ref.id
