"""Where our tasks run and where they write: the ECS cluster and the log group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from daskenv_lab.providers.fargate.aws import Aws, AwsRefused
from daskenv_lab.providers.fargate.resource import LOG_GROUP, NAME, Resource, is_shared
from daskenv_lab.providers.fargate.tags import as_list, from_list

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROVIDERS = ["FARGATE", "FARGATE_SPOT"]
_KEPT_DAYS = 30
_NO_LINKED_ROLE = "service linked role"


@dataclass(frozen=True, slots=True)
class EcsCluster:
    """The ECS cluster, with both ways of Fargate: at full price and spot."""

    def look(self, aws: Aws, *, closely: bool) -> Resource:  # noqa: ARG002 - one call sees it all
        """See how it is."""
        seen = Resource(kind="ECS cluster", name=NAME, state="missing")
        found = aws.call("ecs", "describe_clusters", clusters=[NAME], include=["TAGS"])
        # AWS keeps a removed cluster in sight for a while as INACTIVE; making it again revives it.
        there = [c for c in found["clusters"] if c["status"] != "INACTIVE"]
        if not there:
            return seen
        cluster = there[0]
        seen = replace(seen, identifier=cluster["clusterArn"], state="exists")
        if not is_shared(from_list(cluster.get("tags") or ())):
            return replace(seen, state="foreign", note="without our tags")
        if lost := sorted(set(_PROVIDERS) - set(cluster.get("capacityProviders") or ())):
            return replace(seen, state="damaged", note=f"without {' and '.join(lost)}")
        if cluster["status"] != "ACTIVE":
            return replace(seen, state="damaged", note=f"its status is {cluster['status']}")
        return seen

    def mend(self, aws: Aws, seen: Resource, tags: Mapping[str, str]) -> None:
        """Make it, or give it its capacity providers again."""
        if seen.identifier is not None:
            aws.call(
                "ecs",
                "put_cluster_capacity_providers",
                cluster=NAME,
                capacityProviders=_PROVIDERS,
                defaultCapacityProviderStrategy=[],
            )
            return
        wanted: dict[str, Any] = {
            "clusterName": NAME,
            "capacityProviders": _PROVIDERS,
            "tags": as_list(tags),
        }
        try:
            aws.call("ecs", "create_cluster", **wanted)
        except AwsRefused as refused:
            if _NO_LINKED_ROLE not in refused.reason.lower():
                raise
            # An account that never used ECS; the next round finds the role in its place.
            _make_linked_role(aws)

    def remove(self, aws: Aws, seen: Resource) -> bool:
        """Remove it; AWS refuses while a task runs in it."""
        aws.call("ecs", "delete_cluster", cluster=seen.identifier)
        return True


@dataclass(frozen=True, slots=True)
class LogGroup:
    """The log group, which forgets after thirty days."""

    def look(self, aws: Aws, *, closely: bool) -> Resource:
        """See how it is; `closely` also reads its tags."""
        seen = Resource(kind="log group", name=LOG_GROUP, state="missing")
        found = aws.call("logs", "describe_log_groups", logGroupNamePrefix=LOG_GROUP)
        # The list is in the order of the alphabet, so ours is on the first page.
        there = [g for g in found["logGroups"] if g["logGroupName"] == LOG_GROUP]
        if not there:
            return seen
        arn = str(there[0]["arn"]).removesuffix(":*")
        seen = replace(seen, identifier=arn, state="exists")
        if closely:
            tags = aws.call("logs", "list_tags_for_resource", resourceArn=arn)["tags"]
            if not is_shared(tags):
                return replace(seen, state="foreign", note="without our tags")
            if "retentionInDays" not in there[0]:
                return replace(seen, state="damaged", note="it keeps everything for ever")
        return seen

    def mend(self, aws: Aws, seen: Resource, tags: Mapping[str, str]) -> None:
        """Make it, or let it forget."""
        if seen.identifier is None:
            aws.call("logs", "create_log_group", logGroupName=LOG_GROUP, tags=dict(tags))
        aws.call("logs", "put_retention_policy", logGroupName=LOG_GROUP, retentionInDays=_KEPT_DAYS)

    def remove(self, aws: Aws, seen: Resource) -> bool:  # noqa: ARG002 - the name says it all
        """Remove it with all logs."""
        aws.call("logs", "delete_log_group", logGroupName=LOG_GROUP)
        return True


def _make_linked_role(aws: Aws) -> None:
    """Make the role by which ECS attaches network interfaces, once in an account's life.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using-service-linked-roles.html
    """
    try:
        aws.call("iam", "create_service_linked_role", AWSServiceName="ecs.amazonaws.com")
    except AwsRefused as refused:
        # InvalidInput: "has been taken in this account", by CreateCluster itself or by another.
        if refused.code != "InvalidInput":
            raise
