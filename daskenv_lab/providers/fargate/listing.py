"""All clusters of ours in an account, found by their tags, and what is left of some."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from daskenv_lab import config
from daskenv_lab.bounded import Deadline
from daskenv_lab.cluster import ClusterInfo, ClusterRef
from daskenv_lab.errors import ClusterGone, ProviderError
from daskenv_lab.providers.fargate import fleet, scaling, vault
from daskenv_lab.providers.fargate.account import place
from daskenv_lab.providers.fargate.reach import reach
from daskenv_lab.providers.fargate.tags import Identity, allowed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daskenv_lab.environments import DaskCloudProviderEnvironment
    from daskenv_lab.providers.fargate.aws import Aws
    from daskenv_lab.providers.fargate.fleet import Task

_LOOK_TIME = 5.0
_PROVIDER = "fargate"


def clusters(environment: DaskCloudProviderEnvironment, aws: Aws) -> list[ClusterInfo]:
    """List the clusters of ours in the account, whoever made them and in whatever ECS cluster.

    Returns
    -------
    list of ClusterInfo
        The status is ``failed`` for workers or secrets that have no scheduler.
    """
    tasks: dict[str, list[Task]] = defaultdict(list)
    for task in running(aws):
        assert task.identity is not None  # noqa: S101 - for the type checker
        tasks[task.identity.cluster].append(task)
    left = {
        identity.cluster: _left(aws, identity, told)
        for _, told in vault.kept(aws)
        if (identity := Identity.from_tags(told["Tags"])) and identity.cluster not in tasks
    }
    return [_look_at(environment, aws, found) for found in tasks.values()] + list(left.values())


def running(aws: Aws) -> Iterator[Task]:
    """Go through our tasks in all ECS clusters of the account that nobody told to stop."""
    for ecs_cluster in aws.pages("ecs", "list_clusters", "clusterArns"):
        yield from fleet.of_everybody(aws, ecs_cluster)


def let_in(aws: Aws) -> set[str]:
    """Collect the addresses from which running clusters may be reached, as their tags name them."""
    return {cidr for t in running(aws) if (i := t.identity) for cidr in i.allow.split()}


def ended(aws: Aws, ecs_cluster: str, ref: ClusterRef) -> ClusterGone:
    """Say what became of a cluster, as long as ECS remembers it: about an hour."""
    stopped = [
        t
        for t in fleet.of_everybody(aws, ecs_cluster, stopped=True)
        if t.identity and t.identity.cluster == ref.id and t.role == "scheduler"
    ]
    if not stopped:
        why = f"the cluster {ref.id!r} does not run any more"
    elif stopped[0].finished:
        why = (
            "the cluster has shut itself down, as it had no tasks and no clients for as long as "
            "scheduler_timeout says"
        )
    else:
        why = f"the cluster's scheduler has stopped ({stopped[0].reason})"
    return ClusterGone(f"{why}; start another with `daskenv up`")


def _look_at(environment: DaskCloudProviderEnvironment, aws: Aws, tasks: list[Task]) -> ClusterInfo:
    """Tell of a cluster by its tags, and by its scheduler if it is this person's."""
    scheduler = next((t for t in tasks if t.role == "scheduler"), None)
    identity = (scheduler or tasks[0]).identity
    assert identity is not None  # noqa: S101 - they were grouped by it
    ref = ClusterRef(provider=_PROVIDER, id=identity.cluster, location=place(aws))
    if scheduler and scheduler.status == "RUNNING" and _same_person(identity):
        with contextlib.suppress(ProviderError):
            connection = reach(environment, aws, ref, scheduler, Deadline(_LOOK_TIME))
            with contextlib.closing(connection):
                return scaling.info(connection)
    return ClusterInfo(
        ref=ref,
        status=_status(scheduler),
        name=identity.name,
        owner=_owner(identity),
        fingerprint=identity.fingerprint,
        started_at=(scheduler or tasks[0]).created_at,
        requested=sum(t.role == "worker" for t in tasks),
    )


def _status(scheduler: Task | None) -> str:
    if scheduler is None:
        return "failed"
    return "running" if scheduler.status == "RUNNING" else "pending"


def _same_person(identity: Identity) -> bool:
    """Compare what stands before the @: the same person may be on another machine."""
    return identity.owner.split("@", 1)[0] == allowed(config.owner()).split("@", 1)[0]


def _owner(identity: Identity) -> str:
    """Name the owner as the configuration does, if it is ours: a tag does not take every sign."""
    here = config.owner()
    return here if identity.owner == allowed(here) else identity.owner


def _left(aws: Aws, identity: Identity, told: Mapping[str, Any]) -> ClusterInfo:
    """Tell of a secret whose cluster has no tasks: not there yet, or not there any more."""
    return ClusterInfo(
        ref=ClusterRef(provider=_PROVIDER, id=identity.cluster, location=place(aws)),
        status="failed",
        name=identity.name,
        owner=_owner(identity),
        fingerprint=identity.fingerprint,
        started_at=told.get("CreatedDate"),
    )
