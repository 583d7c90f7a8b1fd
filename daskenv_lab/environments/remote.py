"""An environment for a cluster that exists already."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from daskenv_lab.environments.base import Environment
from daskenv_lab.environments.checks import Hook, text
from daskenv_lab.errors import EnvironmentValueError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADDRESS = re.compile(r"(?:[a-z]+://)?[^\s/]+:\d+(?:/\S*)?|[a-z]+://\S+")


@dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class RemoteDaskEnvironment(Environment):
    """Run flows on a cluster that exists already, by its scheduler's address.

    Parameters
    ----------
    address : str
        The scheduler's address, such as ``tls://10.0.0.5:8786``.
    security : bool, mapping or distributed.Security, optional
        TLS for the connections to the scheduler.
    executor_kwargs, labels, on_start, on_exit, metadata
        As for `DaskCloudProviderEnvironment`.

    Raises
    ------
    EnvironmentValueError
        An argument is ill-typed or unknown.

    Examples
    --------
    >>> RemoteDaskEnvironment("tcp://127.0.0.1:8786")
    RemoteDaskEnvironment(address='tcp://127.0.0.1:8786')
    """

    kind: ClassVar[str] = "remote"

    address: str

    def __init__(
        self,
        address: str,
        *,
        security: Any = None,
        executor_kwargs: Mapping[str, Any] | None = None,
        labels: Any = None,
        on_start: Hook | None = None,
        on_exit: Hook | None = None,
        metadata: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        owner = type(self).__name__
        text(owner, "address", address, hint="it takes an address such as 'tcp://10.0.0.5:8786'")
        if not _ADDRESS.fullmatch(address):
            raise EnvironmentValueError(
                f"{owner} was given address={address!r}, which has no port; "
                f"write it as 'tcp://{address}:8786'"
            )
        self._put("address", address)
        self._refuse_misspelt(unknown)
        if unknown:
            raise EnvironmentValueError(
                f"{owner} has no argument {next(iter(unknown))!r}; a cluster that exists already "
                "is neither sized nor configured from here"
            )
        self._set_shared(
            n_workers=None,
            adaptive_min_workers=None,
            adaptive_max_workers=None,
            security=security,
            executor_kwargs=executor_kwargs,
            labels=labels,
            on_execute=None,
            on_start=on_start,
            on_exit=on_exit,
            metadata=metadata,
            extra={},
        )

    def without_hooks(self) -> RemoteDaskEnvironment:
        """Make a copy without `on_start` and `on_exit`."""
        return self.replace(on_start=None, on_exit=None)
