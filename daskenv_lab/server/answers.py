"""What an error of ours is in HTTP."""

from __future__ import annotations

from daskenv_lab.errors import (
    AuthenticationFailed,
    ClusterGone,
    CommandError,
    ConfigError,
    DaskEnvLabError,
    EnvironmentValueError,
    NotSupported,
    ProviderError,
    SecretMissing,
    SessionError,
    UnknownNameError,
    WaitTimeout,
)
from daskenv_lab.server.ticket import TicketRefused

_STATUS: tuple[tuple[type[DaskEnvLabError], int], ...] = (
    (TicketRefused, 403),
    (CommandError, 400),
    (ConfigError, 400),
    (EnvironmentValueError, 400),
    (UnknownNameError, 404),
    (NotSupported, 409),
    (SessionError, 409),
    (ClusterGone, 410),
    (SecretMissing, 502),
    (AuthenticationFailed, 502),
    (WaitTimeout, 504),
    (ProviderError, 502),
)


def status_of(error: DaskEnvLabError) -> int:
    """Give the HTTP status that fits an error.

    Examples
    --------
    >>> status_of(ClusterGone("it ended")), status_of(DaskEnvLabError("who knows"))
    (410, 500)
    """
    return next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
