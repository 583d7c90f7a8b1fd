"""Providers: each runs clusters in its own way, behind one contract.

Which one serves an environment is decided here, and nowhere else.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from daskenv_lab.environments import (
    EMBEDDED,
    DaskCloudProviderEnvironment,
    DaskGatewayEnvironment,
    Environment,
    RemoteDaskEnvironment,
)

if TYPE_CHECKING:
    from daskenv_lab.providers.contract import Provider

__all__ = ["provider_for"]

_HOMES = {
    "fargate": ("daskenv_lab.providers.fargate.provider", "FargateProvider"),
    "gateway": ("daskenv_lab.providers.gateway", "GatewayProvider"),
    "local": ("daskenv_lab.providers.local", "LocalProvider"),
    "process": ("daskenv_lab.providers.process", "ProcessProvider"),
    "remote": ("daskenv_lab.providers.remote", "RemoteProvider"),
}


def provider_for(environment: Environment) -> Provider:
    """Make the provider that runs clusters for an environment.

    Examples
    --------
    >>> provider_for(DaskGatewayEnvironment("local")).name
    'local'
    """
    module, name = _HOMES[_word(environment)]
    provider: Provider = getattr(importlib.import_module(module), name)(environment)
    return provider


def _word(environment: Environment) -> str:
    if isinstance(environment, RemoteDaskEnvironment):
        return "remote"
    if isinstance(environment, DaskCloudProviderEnvironment) and environment.short_name:
        return "fargate"
    if not isinstance(environment, DaskGatewayEnvironment):
        return "process"
    if environment.gateway_address != EMBEDDED:
        return "gateway"
    # Dask Gateway's server has no wheel for Windows.
    return "process" if sys.platform == "win32" else "local"
