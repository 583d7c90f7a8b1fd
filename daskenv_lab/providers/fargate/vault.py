"""The secret of each cluster in Secrets Manager: TLS material, and what the user keeps secret.

A secret has one of a row of fixed names, the first that is free, and not one of its own: so the
task definitions, which name it, are the same ones again and again.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import ClusterGone, ProviderError
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused, NotPermitted
from daskenv_lab.providers.fargate.tags import CLUSTER, Identity, as_list, from_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PREFIX = "daskenv/"
_SLOTS = 400
# AWS ends each ARN with a hyphen and six characters of its own choice.
_SUFFIX = 7


class SecretGone(ClusterGone):
    """A cluster's TLS material is not there any more: nobody can connect to it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a cluster's secrets are."""

    name: str
    arn: str
    """Without the characters at its end that are never the same, so that definitions are."""


def put(aws: Aws, identity: Callable[[str], Identity], content: Mapping[str, str]) -> Kept:
    """Keep a cluster's secrets, and tell where.

    Parameters
    ----------
    aws : Aws
        The account.
    identity : callable
        Gives the tags for a name.
    content : mapping of str to str
        What a task definition's ``secrets`` pick from, by key.

    Raises
    ------
    NotPermitted
        The credentials may not use Secrets Manager.
    ProviderError
        All names are taken.
    """
    taken = {name for name, _ in kept(aws)}
    free = (name for i in range(_SLOTS) if (name := f"{PREFIX}slot-{i:03}") not in taken)
    for name in free:
        try:
            made = aws.call(
                "secretsmanager",
                "create_secret",
                Name=name,
                Description="TLS material of a Dask cluster of daskenv_lab; goes with the cluster",
                SecretString=json.dumps(dict(content)),
                Tags=as_list(identity(name).tags(), upper=True),
            )
        except AwsRefused as refused:
            # Another took it at this moment, or its deletion is not finished.
            if refused.code not in ("ResourceExistsException", "InvalidRequestException"):
                raise
            continue
        return Kept(name=name, arn=str(made["ARN"])[:-_SUFFIX])
    raise ProviderError(
        f"all {_SLOTS} names for secrets under {PREFIX!r} are taken; remove the clusters that "
        "nobody holds with `daskenv reap`"
    )


def fetch(aws: Aws, name: str) -> dict[str, str]:
    """Read a cluster's secrets.

    Raises
    ------
    SecretGone
        They are not there any more.
    NotPermitted
        The credentials may not read them.
    """
    try:
        answer = aws.call("secretsmanager", "get_secret_value", SecretId=name)
    except AwsRefused as refused:
        if refused.code not in ("ResourceNotFoundException", "InvalidRequestException"):
            raise
        raise SecretGone(
            f"the secret {name!r} with the cluster's TLS material is gone; start another cluster "
            "with `daskenv up`"
        ) from refused
    return dict(json.loads(answer["SecretString"]))


def kept(aws: Aws) -> list[tuple[str, dict[str, Any]]]:
    """List the secrets of all clusters of ours: their names, and what AWS tells of each."""
    found = aws.pages(
        "secretsmanager",
        "list_secrets",
        "SecretList",
        Filters=[{"Key": "name", "Values": [PREFIX]}],
    )
    return [(str(s["Name"]), {**s, "Tags": from_list(s.get("Tags", ()))}) for s in found]


def remove(aws: Aws, cluster: str, *, name: str = "") -> None:
    """Delete the secrets of a cluster, at once and for good; no error if there are none.

    `name` is that of its secret where it is known: a list may be minutes old.
    """
    try:
        found = [told for _, told in kept(aws)]
    except NotPermitted:
        if name:
            raise
        return  # Who may not look here could not keep anything here either.
    if name and name not in [told["Name"] for told in found]:
        found += _described(aws, name)
    for told in found:
        if told["Tags"].get(CLUSTER) == cluster:
            with _fine_if("ResourceNotFoundException"):
                aws.call(
                    "secretsmanager",
                    "delete_secret",
                    # Not by its name, which may be another cluster's by the time the call arrives.
                    SecretId=told["ARN"],
                    ForceDeleteWithoutRecovery=True,
                )


def token() -> str:
    """Make a cluster's id: nothing of it can be guessed, and nobody else has it."""
    return secrets.token_hex(8)


def _described(aws: Aws, name: str) -> list[dict[str, Any]]:
    """Look at one secret, as `kept` tells of each."""
    with _fine_if("ResourceNotFoundException", "InvalidRequestException"):
        told = aws.call("secretsmanager", "describe_secret", SecretId=name)
        return [{**told, "Tags": from_list(told.get("Tags", ()))}]
    return []


@contextlib.contextmanager
def _fine_if(*codes: str) -> Iterator[None]:
    try:
        yield
    except AwsRefused as refused:
        if refused.code not in codes:
            raise
