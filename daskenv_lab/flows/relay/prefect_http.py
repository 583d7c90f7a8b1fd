"""The internals of Prefect's HTTP client and settings on which the relay builds.

``tests/flows/relay`` says what we count on.
"""

from __future__ import annotations

import contextvars
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.context import FlowRunContext, SettingsContext
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_API_URL,
    PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    PREFECT_CLOUD_API_URL,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

AT_ONCE = 16
"""Calls to one API that are under way at once, as many as Prefect's own client opens."""

_SERVER_SECRETS = (("server", "api", "auth_string"), ("server", "database"), ("server", "docket"))
_API_SECRETS = (
    ("api", "key"),
    ("api", "auth_string"),
    ("api", "ssl_cert_file"),
    ("client", "custom_headers"),
)


@dataclass(frozen=True, kw_only=True)
class ApiSettings:
    """What the present settings say of the Prefect API; the secrets stay out of its `repr`."""

    url: str
    key: str | None
    auth_string: str | None
    headers: tuple[tuple[str, str], ...]
    ssl_cert_file: str | None
    verify: bool
    timeout: float
    csrf: bool
    cloud: bool
    ephemeral: bool
    """Whether the address stands in no setting: Prefect started the API for this run."""

    def __repr__(self) -> str:
        return f"ApiSettings(url={self.url!r})"

    @property
    def secret(self) -> str | None:
        """Name what must not leave this process, if anything."""
        if self.key:
            return "an API key"
        if self.auth_string:
            return "an auth string"
        return "headers of its own" if self.headers else None

    @property
    def own_headers(self) -> set[str]:
        """The names of the headers that workers cannot set."""
        return {name.lower() for name, _ in self.headers}


def api_settings() -> ApiSettings:
    """Read the present settings; the address of an ephemeral API is the flow run's."""
    url = PREFECT_API_URL.value()
    context = FlowRunContext.get()
    found = url or (str(context.client.api_url) if context is not None else "")
    cloud = found.startswith(PREFECT_CLOUD_API_URL.value())
    return ApiSettings(
        url=found.rstrip("/"),
        key=_plain(PREFECT_API_KEY.value()),
        auth_string=_plain(PREFECT_API_AUTH_STRING.value()),
        headers=tuple(sorted(dict(PREFECT_CLIENT_CUSTOM_HEADERS.value() or {}).items())),
        ssl_cert_file=PREFECT_API_SSL_CERT_FILE.value(),
        verify=not PREFECT_API_TLS_INSECURE_SKIP_VERIFY.value(),
        timeout=float(PREFECT_API_REQUEST_TIMEOUT.value()),
        csrf=bool(PREFECT_CLIENT_CSRF_SUPPORT_ENABLED.value()) and not cloud,
        cloud=cloud,
        ephemeral=not url,
    )


def settings_alone() -> contextvars.Context:
    """Make a context that holds the present settings, and neither flow run nor parameters."""
    context = contextvars.Context()
    if settings := SettingsContext.get():
        context.run(settings.model_copy().__enter__)
    return context


def http_client(settings: ApiSettings) -> httpx.AsyncClient:
    """Make Prefect's own HTTP client: its key, headers, TLS settings, time limits, connections."""
    # Prefect keeps fewer connections than it opens, and would open new ones all the time.
    limits = httpx.Limits(
        max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE, keepalive_expiry=25
    )
    return PrefectClient(
        settings.url,
        auth_string=settings.auth_string,
        api_key=settings.key,
        httpx_settings={"limits": limits},
    )._client


def sync_http_client(settings: ApiSettings) -> httpx.Client:
    """Make the same for a thread that has no event loop."""
    return SyncPrefectClient(
        settings.url, auth_string=settings.auth_string, api_key=settings.key
    )._client


async def send_once(http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Send a request without Prefect's retries, which the asking worker makes itself."""
    return await httpx.AsyncClient.send(http, request, stream=True, follow_redirects=False)


def ask_once(
    http: httpx.Client,
    method: str,
    url: httpx.URL | str,
    headers: list[tuple[str, str]],
    body: bytes | None = None,
) -> httpx.Response:
    """Ask without Prefect's retries, whatever the answer is."""
    request = http.build_request(method, url, headers=headers, content=body)
    return httpx.Client.send(http, request, follow_redirects=False)


def stripped(settings_context: Mapping[str, Any], *, relayed: bool) -> dict[str, Any]:
    """Copy a written settings context without what must not leave the client.

    The server's secrets (its database, queue and auth string) never leave; the API's key, auth
    string, headers and certificate stay as well where calls are relayed.

    Parameters
    ----------
    settings_context : mapping
        ``prefect.context.serialize_context()["settings_context"]``.
    relayed : bool
        Whether workers reach the API through the relay.
    """
    kept: dict[str, Any] = copy.deepcopy(dict(settings_context))
    for path in _SERVER_SECRETS + (_API_SECRETS if relayed else ()):
        _remove(kept.get("settings") or {}, path)
    # What a profile says stands among the settings already.
    if kept.get("profile"):
        kept["profile"]["settings"] = {}
    return kept


def _plain(value: Any) -> str | None:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value or None


def _remove(settings: dict[str, Any], path: tuple[str, ...]) -> None:
    *outer, last = path
    place: Any = settings
    for name in outer:
        place = place.get(name)
        if not isinstance(place, dict):
            return
    place.pop(last, None)
