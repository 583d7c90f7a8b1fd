"""What can be started: profiles, and the settings that each kind offers as choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskenv_lab import config, lifecycle, sizes
from daskenv_lab.environments import DaskCloudProviderEnvironment
from daskenv_lab.view.call import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
    options: tuple[tuple[str, Any], ...] = ()
    """What is shown, and the value; empty for free text."""

    value: Any = None
    """What is chosen at first; None leaves it to the provider."""


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


def choices(what: str, chosen: Mapping[str, Any]) -> tuple[Choice, ...]:
    """Give the settings of a profile or kind that are choices, as far as they are made.

    The memory sizes are those that go with the CPU that is chosen.

    Parameters
    ----------
    what : str
        A profile or kind.
    chosen : mapping
        What is chosen so far, by name.

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
        Choice(name="image", label="Image", value=given.get("image") or ""),
    )


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
    """Give the call that starts or reuses a cluster, without the settings that say nothing.

    Examples
    --------
    >>> up_call("dev", "local", {"n_workers": 2, "image": ""}).code
    "daskenv_lab.up('local', name='dev', n_workers=2)"
    """
    given = {key: value for key, value in settings.items() if value not in (None, "", False)}
    hidden = {} if progress is None else {"progress": progress}
    return Call(what="up", positional=(what,), arguments={"name": name, **given}, hidden=hidden)
