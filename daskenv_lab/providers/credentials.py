"""TLS credentials: from an environment's settings, and from one process to another."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import distributed

from daskenv_lab import config
from daskenv_lab.errors import AuthenticationFailed

_FOR_CLIENTS = (
    "require_encryption",
    "tls_ca_file",
    "tls_ciphers",
    "tls_client_cert",
    "tls_client_key",
)


def security_from(setting: bool | Mapping[str, Any] | None) -> distributed.Security | None:
    """Make Dask's object from an environment's `security`.

    Parameters
    ----------
    setting : bool, mapping or None
        The arguments of `distributed.Security`. True is what Dask's own configuration says, with
        encryption required; False and None leave everything to that configuration.

    Raises
    ------
    AuthenticationFailed
        An argument is unknown, or a file of it cannot be read.
    """
    if not isinstance(setting, Mapping):
        return distributed.Security(require_encryption=True) if setting else None
    arguments = config.resolve_secrets(dict(setting))
    if "tls_min_version" in arguments:
        # Written down as a number; OpenSSL's wrapper wants its own type.
        arguments["tls_min_version"] = ssl.TLSVersion(arguments["tls_min_version"])
    try:
        security = distributed.Security(**arguments)
        security.get_connection_args("client")
    except (TypeError, ValueError, OSError) as error:
        raise AuthenticationFailed(
            f"the credentials in `security` ({', '.join(sorted(arguments))}) cannot be used "
            f"({error}); give the arguments of distributed.Security"
        ) from error
    return security


def for_clients(security: Any) -> dict[str, Any]:
    """Take what a client needs out of a cluster's own credentials; empty when there are none."""
    found = {name: getattr(security, name, None) for name in _FOR_CLIENTS}
    return {name: value for name, value in found.items() if value is not None}
