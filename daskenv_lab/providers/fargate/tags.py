"""The tags by which any machine finds a cluster of ours, and knows whose it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CLUSTER = "daskenv:cluster"
ROLE = "daskenv:role"
ADAPTIVE = "daskenv:adaptive"
"""Who scales the cluster by its load at this moment, and until when."""

_PREFIX = "daskenv:"
_FORBIDDEN = re.compile(r"[^\w\s.:/=+\-@]", re.ASCII)
_LONGEST = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the tags of each task and each secret of a cluster say.

    Examples
    --------
    >>> Identity(cluster="8f3e", name="dev", owner="ada@here").tags()["daskenv:name"]
    'dev'
    """

    cluster: str
    """The cluster's id, made by us."""

    name: str
    owner: str
    """``user@host``."""

    fingerprint: str = ""
    secret: str = ""
    """The name of the secret with the TLS material; empty where there is none."""

    allow: str = ""
    """From where clients may connect, CIDRs with spaces between; empty in the user's own groups."""

    port: str = "8786"
    protocol: str = "tls"
    public: str = ""
    """``1`` for a scheduler that clients reach by its public address."""

    @property
    def who(self) -> str:
        """Whose rule it is in a security group."""
        return f"{self.owner} {self.name}"

    @property
    def started_by(self) -> str:
        """ECS's own mark of who started a task, by which it lists them."""
        return f"daskenv/{self.cluster}"

    def tags(self, **more: str) -> dict[str, str]:
        """Give the tags; what AWS takes in no tag is replaced by ``_``."""
        own = {f"{_PREFIX}{name}": getattr(self, name) for name in self.__slots__}
        found = {**own, **{f"{_PREFIX}{k}": v for k, v in more.items()}, "createdBy": "daskenv_lab"}
        return {k: allowed(v) for k, v in found.items() if v}

    def allowing(self, cidrs: Sequence[str]) -> dict[str, str]:
        """Give the one tag that lets further addresses in; the oldest go where it gets too long."""
        kept = list(cidrs)
        while len(" ".join(kept)) > _LONGEST:
            del kept[0]
        return {f"{_PREFIX}allow": " ".join(kept)}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> Self | None:
        """Read what `tags` wrote; None for something that is not ours."""
        if CLUSTER not in tags:
            return None
        found = {name: tags.get(f"{_PREFIX}{name}", "") for name in cls.__slots__}
        return cls(**found)


def allowed(value: str) -> str:
    r"""Write a tag's value with ``_`` for what AWS may not take, and no longer than it takes.

    Examples
    --------
    >>> allowed('CORP\\ada "x"')
    'CORP_ada _x_'
    """
    return _FORBIDDEN.sub("_", value)[:_LONGEST]


def as_list(tags: Mapping[str, str], *, upper: bool = False) -> list[dict[str, str]]:
    """Write tags as an AWS operation takes them; some services want capital letters."""
    key, value = ("Key", "Value") if upper else ("key", "value")
    return [{key: name, value: told} for name, told in tags.items()]


def from_list(tags: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Read tags as any AWS operation gives them."""
    return {str(t.get("key", t.get("Key"))): str(t.get("value", t.get("Value"))) for t in tags}
