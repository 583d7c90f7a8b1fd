"""What can be started: profiles, and the settings that each kind offers as choices."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from daskenv_lab import config, lifecycle, sizes
from daskenv_lab.environments import DaskCloudProviderEnvironment, DaskGatewayEnvironment
from daskenv_lab.view.call import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from daskenv_lab.environments import Environment
    from daskenv_lab.providers.contract import Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One setting of a kind, and what it can be.

    Examples
    --------
    >>> Choice(name="worker_cpu", label="CPU of a worker", options=((1.0, 1024),)).options
    ((1.0, 1024),)
    """

    name: str
    """The environment's argument."""

    label: str
    kind: Literal["choice", "text", "whole", "number", "flag"] = "choice"
    options: tuple[tuple[str, Any], ...] = ()
    """What is shown, and the value, of what can be chosen."""

    value: Any = None
    """What is chosen; None leaves it to the provider."""

    stands: Any = None
    """What holds where nothing is said."""

    least: float | None = None
    most: float | None = None


def profiles() -> tuple[str, ...]:
    """List what can be started without a further word, the default first.

    Examples
    --------
    >>> profiles()[0]
    'local'
    """
    first = str(config.get("profile"))
    rest = [n for n in config.profile_names() if n not in (first, "remote", "gateway")]
    if config.get("gateway.address"):
        rest.append("gateway")
    return (first, *rest)


def asks(what: str) -> bool:
    """Tell whether a profile's or kind's choices are what a Gateway offers.

    Raises
    ------
    DaskEnvLabError
        The profile is damaged.
    """
    return isinstance(lifecycle.environment_for(what), DaskGatewayEnvironment)


def choices(
    what: str, chosen: Mapping[str, Any], offers: Iterable[Offer] = ()
) -> tuple[Choice, ...]:
    """Give the settings of a profile or kind that are choices, as far as they are made.

    The memory sizes of Fargate are those that go with the CPU that is chosen.

    Parameters
    ----------
    what : str
        A profile or kind.
    chosen : mapping
        What is chosen so far, by name.
    offers : iterable of Offer
        What its provider offers, as far as that is known.

    Raises
    ------
    DaskEnvLabError
        The profile is damaged.

    Examples
    --------
    >>> [label for label, _ in choices("fargate", {"worker_cpu": 256})[1].options]
    ['0.5 GB', '1 GB', '2 GB']
    """
    environment = lifecycle.environment_for(what)
    if isinstance(environment, DaskGatewayEnvironment):
        return _of_gateway(environment, chosen, offers)
    if not isinstance(environment, DaskCloudProviderEnvironment) or not environment.short_name:
        return ()
    given = {**environment.provider_kwargs, **chosen}
    cpu = given.get("worker_cpu")
    cpus = tuple((f"{units / 1024:g} vCPU", units) for units in sizes.CPUS)
    memories = tuple((f"{mib / 1024:g} GB", mib) for mib in sizes.memories(cpu or 0))
    default = (("as the class has it", None),)
    fitting = [mib for _, mib in memories]
    asked = given.get("worker_mem")
    memory = asked if asked in fitting else next(iter(fitting), None)
    return (
        Choice(name="worker_cpu", label="CPU of a worker", options=default + cpus, value=cpu),
        Choice(
            name="worker_mem",
            label="Memory of a worker",
            options=memories or default,
            value=memory,
        ),
        Choice(
            name="fargate_spot",
            label="Spot",
            options=(("no", None), ("yes, cheaper, and may be taken away", True)),
            value=given.get("fargate_spot"),
        ),
        Choice(name="image", label="Image", kind="text", value=given.get("image") or ""),
    )


def settings(found: Iterable[Choice], values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings that were chosen, without those that say nothing new.

    Examples
    --------
    >>> spot = Choice(name="spot", label="Spot", kind="flag", stands=True)
    >>> settings([spot], {"spot": False}), settings([spot], {"spot": True})
    ({'spot': False}, {})
    """
    chosen = ((choice, values[choice.name]) for choice in found)
    return {c.name: value for c, value in chosen if value not in (None, "", c.stands)}


def takes_rehearsal(what: str) -> bool:
    """Tell whether a profile or kind can be rehearsed on this machine."""
    environment = lifecycle.environment_for(what)
    return isinstance(environment, DaskCloudProviderEnvironment) and bool(environment.short_name)


def up_call(
    name: str,
    what: str,
    settings: Mapping[str, Any],
    *,
    progress: Callable[[str], None] | None = None,
) -> Call:
    """Give the call that starts or reuses a cluster.

    Examples
    --------
    >>> up_call("dev", "local", {"n_workers": 2}).code
    "daskenv_lab.up('local', name='dev', n_workers=2)"
    """
    hidden = {} if progress is None else {"progress": progress}
    return Call(what="up", positional=(what,), arguments={"name": name, **settings}, hidden=hidden)


_TYPES: dict[str, Any] = {
    "text": str,
    "choice": str,
    "whole": int,
    "number": (int, float),
    "flag": bool,
}


def _of_gateway(
    environment: DaskGatewayEnvironment, chosen: Mapping[str, Any], offers: Iterable[Offer]
) -> tuple[Choice, ...]:
    """Turn offers into choices, but for those that `up` could not be given, or hold a secret."""
    taken = _own_words(environment)
    profile = environment.cluster_options
    found = []
    for offer in offers:
        stands = profile.get(offer.name, offer.default)
        if offer.name in taken or not isinstance(stands, _TYPES[offer.kind]):
            continue
        found.append(
            Choice(
                name=offer.name,
                label=offer.label,
                kind=offer.kind,
                options=tuple((word, word) for word in offer.choices),
                value=chosen.get(offer.name, stands),
                stands=stands,
                least=offer.least,
                most=offer.most,
            )
        )
    return tuple(found)


def _own_words(environment: Environment) -> set[str]:
    """Name what is no cluster option to `up` or to the environment's class."""
    words = {"self"}
    for function in (lifecycle.up, type(environment).__init__):
        words |= set(inspect.signature(function).parameters)
    return words - {"image"}
