"""The way to the AWS API: clients with time limits and retries, and errors in plain words."""

from __future__ import annotations

import ipaddress
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from daskenv_lab.errors import AuthenticationFailed, ProviderError, ProviderUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

_ATTEMPTS = 7
"""Calls of one operation, the first included; botocore waits up to 2, 4, 8, … 20 s in between."""
_LONGEST_REASON = 400
_CONNECT_LIMIT = 5.0
_READ_LIMIT = 20.0

# Botocore's form: where a setting stands in files, its variable, its default, and a conversion.
_NOBODYS = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
    "ca_bundle": (None, None, None, None),
}

_REFUSED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
_NOT_KNOWN = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_TOO_OFTEN = {
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
}


class AwsRefused(ProviderError):
    """An AWS operation answered with an error; `code` is AWS's own word for it."""

    def __init__(self, sentence: str, *, code: str, operation: str, reason: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.operation = operation
        self.reason = reason


class NotPermitted(AwsRefused, AuthenticationFailed):
    """The credentials are good, and may not do this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An access key, as AWS hands it out.

    Examples
    --------
    >>> Credentials(key_id="AKIAEXAMPLE", secret="hush")
    Credentials(key_id='AKIAEXAMPLE')
    """

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class Aws:
    """One account in one region.

    Parameters
    ----------
    region : str, optional
        By default what AWS's own configuration says.
    credentials : Credentials, optional
        By default AWS's own chain: process variables, profiles, roles.
    endpoint : str, optional
        The address of a rehearsal. Nothing else is then ever contacted, and neither the user's
        process variables nor profiles are read.

    Raises
    ------
    AuthenticationFailed
        There is no region, or the configuration of AWS cannot be used.

    Examples
    --------
    >>> Aws(region="eu-west-1")
    <Aws eu-west-1>
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        credentials: Credentials | None = None,
        endpoint: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.credentials = credentials
        # A rehearsal reads no variable, profile or file of the user's.
        here = endpoint is not None
        self._session = botocore.session.Session(session_vars=_NOBODYS if here else None)
        if here:
            self._session.register("before-send", _refuse_to_leave)
        if credentials is not None:
            self._session.set_credentials(credentials.key_id, credentials.secret, credentials.token)
        with _plain_words("the configuration of AWS"):
            found = region or self._session.get_config_variable("region")
        if not found:
            raise AuthenticationFailed(
                "no AWS region is set; give region_name='eu-west-1', say, or set AWS_REGION, "
                "or rehearse on this machine with --rehearse"
            )
        self.region: str = found
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()

    @property
    def rehearsal(self) -> bool:
        """Whether this is an account on this machine."""
        return self.endpoint is not None

    def client(self, service: str) -> Any:
        """Give the botocore client of a service; it may be used by several threads."""
        with self._making:
            if service not in self._clients:
                with _plain_words(f"a client for {service}"):
                    self._clients[service] = self._session.create_client(
                        service,
                        region_name=self.region,
                        endpoint_url=self.endpoint,
                        config=Config(
                            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                            connect_timeout=_CONNECT_LIMIT,
                            read_timeout=_READ_LIMIT,
                            max_pool_connections=16,
                            user_agent_extra="daskenv_lab",
                            # A proxy for the world has no business between us and this machine.
                            proxies={} if self.rehearsal else None,
                        ),
                    )
            return self._clients[service]

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation by botocore's name for it; throttling and 5xx are tried again.

        Raises
        ------
        AuthenticationFailed
            AWS does not know the credentials, or there are none; `NotPermitted` if it knows them.
        ProviderUnreachable
            Nothing answers, or AWS is still busy after all attempts.
        AwsRefused
            AWS answered with another error; its `code` tells which.

        Examples
        --------
        >>> Aws(region="eu-west-1").call("sts", "get_caller_identity")  # doctest: +SKIP
        """
        client = self.client(service)
        with _plain_words(f"{service}:{client.meta.method_to_api_mapping[operation]}"):
            return dict(getattr(client, operation)(**parameters))

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> Iterator[Any]:
        """Go through the entries under `key` of all pages of an operation.

        Raises
        ------
        AuthenticationFailed, ProviderUnreachable, AwsRefused
        """
        client = self.client(service)
        with _plain_words(f"{service}:{client.meta.method_to_api_mapping[operation]}"):
            for page in client.get_paginator(operation).paginate(**parameters):
                yield from page.get(key, ())

    def __repr__(self) -> str:
        return f"<Aws {self.region}{' rehearsed at ' + self.endpoint if self.endpoint else ''}>"


def _refuse_to_leave(request: Any, **_: Any) -> None:
    host = urlsplit(request.url).hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = False
    if not here:
        raise ProviderError(
            f"a rehearsal was about to contact {host}, which is not on this machine; nothing was "
            "sent, please report it"
        )


class _plain_words:  # noqa: N801 - a context manager reads as a word of the sentence
    """Turn what botocore raises into one sentence."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, ClientError):
            raise _answered(self._what, error) from error
        if isinstance(
            error,
            NoCredentialsError
            | PartialCredentialsError
            | CredentialRetrievalError
            | ProfileNotFound
            | SSOError
            | TokenRetrievalError,
        ):
            raise AuthenticationFailed(
                f"AWS credentials for {self._what} were not found ({error}); log in with AWS's "
                "own tools, set AWS_PROFILE, or rehearse on this machine with --rehearse"
            ) from error
        if isinstance(error, NoRegionError):
            raise AuthenticationFailed(
                "no AWS region is set; give region_name or set AWS_REGION"
            ) from error
        if isinstance(error, HTTPClientError | BotoCoreError | ResponseParserError):
            raise ProviderUnreachable(
                f"AWS did not answer {self._what} ({error}); look at the network, or try again"
            ) from error


def _answered(what: str, error: ClientError) -> ProviderError:
    told = error.response.get("Error", {})
    # A proxy or a failing front end may answer with a whole page.
    reason = " ".join(str(told.get("Message", "")).split())[:_LONGEST_REASON].rstrip(".")
    code = " ".join(str(told.get("Code", "")).split())[:_LONGEST_REASON]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _NOT_KNOWN:
        return AuthenticationFailed(
            f"AWS does not accept the credentials for {what} ({code}: {reason}); log in again"
        )
    if code in _TOO_OFTEN:
        return ProviderUnreachable(
            f"AWS still says {code} to {what} after {_ATTEMPTS} attempts; wait a minute, and try "
            "again"
        )
    if status >= 500:
        return ProviderUnreachable(
            f"AWS failed at {what} {_ATTEMPTS} times ({code}: {reason}); look at AWS's health "
            "page, and try again"
        )
    kind = NotPermitted if code in _REFUSED else AwsRefused
    step = (
        "; ask an administrator for what `daskenv bootstrap --policy use` prints"
        if kind is NotPermitted
        else ""
    )
    return kind(
        f"AWS refused {what} ({code}: {reason}){step}", code=code, operation=what, reason=reason
    )
