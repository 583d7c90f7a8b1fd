"""The options that a Dask Gateway offers for a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_gateway import options as fields

from daskenv_lab.environments.secret import mask
from daskenv_lab.errors import ClusterStartError, did_you_mean
from daskenv_lab.providers.contract import Offer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_gateway import Gateway

_KINDS: dict[type[Any], Any] = {
    fields.String: "text",
    fields.Integer: "whole",
    fields.Float: "number",
    fields.Bool: "flag",
    fields.Select: "choice",
}


async def choose(gateway: Gateway, given: Mapping[str, Any]) -> Any:
    """Put the given options into the Gateway's own, which check them.

    Raises
    ------
    ClusterStartError
        It does not offer one of them, or does not take its value.
    """
    options = await gateway.cluster_options()
    for name, value in given.items():
        if name not in options:
            raise ClusterStartError(
                f"the Gateway at {mask(gateway.address)} has no cluster option {name!r}; "
                f"{did_you_mean(name, options)}"
            )
        try:
            options[name] = value
        except (TypeError, ValueError) as error:
            raise ClusterStartError(
                f"the Gateway at {mask(gateway.address)} does not take the cluster option "
                f"{name!r}: {error}; change it"
            ) from error
    return options


def described(options: fields.Options) -> tuple[Offer, ...]:
    """Describe the options that a Gateway offers.

    One that takes a mapping is left out: what stands in it, such as process variables, is
    written in a profile.

    Examples
    --------
    >>> [(o.name, o.most) for o in described(fields.Options(fields.Integer("cores", 1, max=4)))]
    [('cores', 4)]
    """
    # Nothing public tells more of an option than its name and its value.
    return tuple(
        Offer(
            name=field.field,
            label=field.label,
            kind=_KINDS[type(field)],
            default=field.value,
            least=getattr(field, "min", None),
            most=getattr(field, "max", None),
            choices=getattr(field, "options", ()),
        )
        for field in options._fields.values()
        if type(field) in _KINDS
    )
