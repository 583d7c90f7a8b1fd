"""Which AWS account an environment means: the user's, or a rehearsal on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dask

from daskenv_lab import config, rehearsal
from daskenv_lab.errors import ProviderUnreachable
from daskenv_lab.providers.fargate.aws import Aws, Credentials

if TYPE_CHECKING:
    from daskenv_lab.environments import DaskCloudProviderEnvironment
    from daskenv_lab.providers.contract import Progress

REHEARSAL = "rehearsal"


def account(environment: DaskCloudProviderEnvironment, *, start: Progress | None = None) -> Aws:
    """Give the way to an environment's account.

    Parameters
    ----------
    environment : DaskCloudProviderEnvironment
        Its region and keys, if it has any, go before AWS's own configuration.
    start : callable, optional
        Start the rehearsal if it does not run, and tell this of it.

    Raises
    ------
    AuthenticationFailed
        There is no region.
    ProviderUnreachable
        The rehearsal does not run.
    """
    if environment.rehearse:
        running = rehearsal.start(progress=start) if start else rehearsal.status()
        if running is None:
            raise ProviderUnreachable(
                "the rehearsal does not run, and with it went what was started there; start it "
                "with `daskenv rehearse start`"
            )
        return Aws(
            region=running.region,
            credentials=Credentials(key_id=running.key_id, secret=running.secret),
            endpoint=running.endpoint,
        )
    given = {**dask.config.get("cloudprovider.ecs", {}), **environment.provider_kwargs}
    key_id, secret = given.get("aws_access_key_id"), given.get("aws_secret_access_key")
    return Aws(
        region=given.get("region_name"),
        credentials=Credentials(key_id=key_id, secret=config.resolve_secrets(secret))
        if key_id and secret
        else None,
    )


def place(aws: Aws) -> str:
    """Name where a cluster is, for its reference."""
    return REHEARSAL if aws.rehearsal else aws.region
