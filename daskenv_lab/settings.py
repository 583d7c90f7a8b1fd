"""What was asked for against what runs: which settings differ, and which can change live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskenv_lab.environments import EMBEDDED
from daskenv_lab.environments.base import HOOKS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daskenv_lab.cluster import ClusterInfo
    from daskenv_lab.environments import Environment
    from daskenv_lab.providers.connection import Connection
    from daskenv_lab.providers.contract import Provider

SIZES = ("n_workers", "adaptive_min_workers", "adaptive_max_workers")
"""Arguments that a running cluster can follow."""

OURS = ("auth", "executor_kwargs", "labels", "metadata", "security", *HOOKS)
"""Arguments that concern this side of the connection, or production, and no running cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One setting that was asked for and runs with another value.

    Examples
    --------
    >>> Difference(setting="image", running="a:1", asked="a:2", live=False).live
    False
    """

    setting: str
    running: Any
    asked: Any
    live: bool
    """Whether it changes while the cluster runs; otherwise the cluster must be replaced."""


def differences(
    running: Environment, asked: Environment, info: ClusterInfo
) -> tuple[Difference, ...]:
    """Compare what was asked for with what runs.

    Only what was asked for expressly counts: asking for nothing takes the cluster as it is.

    Parameters
    ----------
    running : Environment
        The settings that the cluster was made with.
    asked : Environment
        The settings wanted now.
    info : ClusterInfo
        The cluster's real size.
    """
    if type(running) is not type(asked):
        return (
            Difference(setting="environment", running=running.kind, asked=asked.kind, live=False),
        )
    made = running.arguments()
    places = [getattr(e, "gateway_address", None) for e in (running, asked)]
    if EMBEDDED in places and places[0] != places[1]:
        return (
            Difference(setting="gateway_address", running=places[0], asked=places[1], live=False),
        )
    rehearsed = [getattr(e, "rehearse", False) for e in (running, asked)]
    if rehearsed[0] != rehearsed[1]:
        # Who means AWS is not given an emulation, nor the other way round.
        return (
            Difference(setting="rehearse", running=rehearsed[0], asked=rehearsed[1], live=False),
        )
    fixed = tuple(
        Difference(setting=name, running=made.get(name), asked=value, live=False)
        for name, value in asked.arguments().items()
        if name not in (*SIZES, *OURS) and made.get(name) != value
    )
    return fixed + _size_differences(asked, info)


def _size_differences(asked: Environment, info: ClusterInfo) -> tuple[Difference, ...]:
    runs = f"{info.adaptive[0]} to {info.adaptive[1]}" if info.adaptive else info.requested
    if asked.adaptive and tuple(info.adaptive or ()) != asked.adaptive:
        wanted = f"{asked.adaptive[0]} to {asked.adaptive[1]}"
        return (Difference(setting="workers", running=runs, asked=wanted, live=True),)
    if asked.n_workers is not None and (info.adaptive or info.requested != asked.n_workers):
        return (Difference(setting="workers", running=runs, asked=asked.n_workers, live=True),)
    return ()


def apply_size(provider: Provider, connection: Connection, wanted: Environment) -> None:
    """Make the cluster follow an environment's size, and note it where the cluster is."""
    if wanted.adaptive:
        provider.adapt(connection, *wanted.adaptive)
    elif wanted.n_workers is not None:
        provider.scale(connection, wanted.n_workers)
    connection.set_label(requested=wanted.n_workers, adaptive=wanted.adaptive)


def merge(running: Environment, asked: Environment) -> Environment:
    """Take the running settings, with those of this side of the connection as asked for now."""
    given = {k: v for k, v in asked.arguments().items() if k in OURS}
    return running.replace(**given) if given else running


def sized(environment: Environment, info: ClusterInfo) -> Environment:
    """Take an environment with the size that really runs.

    Examples
    --------
    >>> from daskenv_lab import ClusterInfo, ClusterRef, DaskGatewayEnvironment
    >>> info = ClusterInfo(ref=ClusterRef(provider="local", id="x"), status="running", requested=3)
    >>> sized(DaskGatewayEnvironment("local", adaptive_max_workers=9), info).n_workers
    3
    """
    bare = environment.replace(**dict.fromkeys(SIZES))
    if info.adaptive:
        low, high = info.adaptive
        return bare.replace(adaptive_min_workers=low, adaptive_max_workers=high)
    return bare if info.requested is None else bare.replace(n_workers=info.requested)


def table(rows: Iterable[Difference]) -> str:
    """Lay the differences out in columns, for a terminal or a notebook.

    Examples
    --------
    >>> print(table([Difference(setting="image", running="a:1", asked="a:2", live=False)]))
    setting  running  asked for  takes
    image    a:1      a:2        --replace
    """
    head = ("setting", "running", "asked for", "takes")
    body = [
        (
            row.setting,
            _shown(row.running),
            _shown(row.asked),
            "effect now" if row.live else "--replace",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in (head, *body)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _shown(value: Any) -> str:
    return "(default)" if value is None else str(value)
