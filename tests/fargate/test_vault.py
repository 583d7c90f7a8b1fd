"""Secrets under names that are used again and again."""

from __future__ import annotations

from daskenv_lab.providers.fargate import vault
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.providers.fargate.tags import Identity


def test_a_late_deletion_does_not_hit_the_next_cluster(aws: Aws) -> None:
    """A call that was under way when its caller died deletes the old secret, or nothing."""

    def identity(cluster: str, name: str) -> Identity:
        return Identity(cluster=cluster, name="dev", owner="ada@here", secret=name)

    first = vault.put(aws, lambda name: identity("first", name), {"key": "1"})
    [old] = [told["ARN"] for name, told in vault.kept(aws) if name == first.name]
    vault.remove(aws, "first", name=first.name)
    second = vault.put(aws, lambda name: identity("second", name), {"key": "2"})
    assert second == first
    # Forced, a deletion of what is gone already is no error for AWS.
    aws.call("secretsmanager", "delete_secret", SecretId=old, ForceDeleteWithoutRecovery=True)
    vault.remove(aws, "first", name=first.name)
    assert vault.fetch(aws, second.name) == {"key": "2"}
    vault.remove(aws, "second", name=second.name)
    assert vault.kept(aws) == []
