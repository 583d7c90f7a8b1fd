"""The options that a Dask Gateway offers for a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskenv_lab.environments.secret import mask
from daskenv_lab.errors import ClusterStartError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dask_gateway import Gateway


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
