"""Environments: frozen values that say which cluster a flow runs on, and how it is sized.

An environment holds settings, never a connection and never a credential that could be
written down. It imports neither Dask, Prefect nor a cloud's SDK.
"""

from daskenv_lab.environments.base import Environment
from daskenv_lab.environments.checks import Hook
from daskenv_lab.environments.cloudprovider import DaskCloudProviderEnvironment
from daskenv_lab.environments.gateway import EMBEDDED, DaskGatewayEnvironment
from daskenv_lab.environments.kinds import environment_of_kind, from_dict
from daskenv_lab.environments.profile import profile_arguments
from daskenv_lab.environments.remote import RemoteDaskEnvironment
from daskenv_lab.environments.secret import Secret, reveal

__all__ = [
    "EMBEDDED",
    "DaskCloudProviderEnvironment",
    "DaskGatewayEnvironment",
    "Environment",
    "Hook",
    "RemoteDaskEnvironment",
    "Secret",
    "environment_of_kind",
    "from_dict",
    "profile_arguments",
    "reveal",
]
