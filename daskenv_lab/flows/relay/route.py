"""How workers reach the Prefect API: straight, or through the client that runs the flow."""

from __future__ import annotations

import ssl
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskenv_lab import config
from daskenv_lab.bounded import in_background
from daskenv_lab.errors import ClusterGone, ConfigError, WaitTimeout
from daskenv_lab.flows.relay.answering import Answering
from daskenv_lab.flows.relay.onscheduler import Relay
from daskenv_lab.flows.relay.prefect_http import ApiSettings, api_settings
from daskenv_lab.flows.relay.probing import mark_from_worker, mark_of_api

if TYPE_CHECKING:
    from collections.abc import Callable

    import distributed

CHOICES = ("auto", "direct", "relay")


@dataclass(frozen=True)
class Route:
    """How workers reach the Prefect API of the present settings."""

    url: str
    """The API's address as the client knows it; empty if Prefect is told of none."""

    relayed: bool
    """Whether their calls go through the client."""

    why: str
    """One sentence for the user."""

    client_id: str
    """The Dask client that answers what is relayed."""

    _parts: dict[str, Any] = field(default_factory=dict, repr=False)

    def written(self) -> dict[str, Any]:
        """Give what a worker needs of it, in plain types; never a key."""
        return {"relayed": self.relayed, "client_id": self.client_id, **self._parts}


class _Routes:
    """What is known of one Dask client: its end of the relay, and the routes found so far."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answering: Answering | None = None
        self.schedulers: set[str] = set()
        self.found: dict[tuple[str, str, ApiSettings], Route] = {}


_routes: weakref.WeakKeyDictionary[distributed.Client, _Routes] = weakref.WeakKeyDictionary()
_routes_lock = threading.Lock()


def route_for(client: distributed.Client, *, say: Callable[[str], None] | None = None) -> Route:
    """Decide how the workers of a cluster reach the API of the present settings.

    With ``daskenv.prefect.route: auto`` they go straight to it if all of them reach it, and it
    is this API and takes no key; else through this process. What was found is remembered for the
    cluster and the settings.

    Parameters
    ----------
    client : distributed.Client
        A client of the cluster, which stays open while the flow runs.
    say : callable, optional
        Told once why calls are relayed.

    Raises
    ------
    ConfigError
        ``daskenv.prefect.route`` is none of the three.
    ClusterGone, WaitTimeout
        The scheduler does not answer.
    """
    choice = config.get("prefect.route")
    if choice not in CHOICES:
        raise ConfigError(
            f"daskenv.prefect.route is {choice!r}; it takes one of {', '.join(CHOICES)}"
        )
    settings = api_settings()
    scheduler = str(client._scheduler_identity.get("id"))
    with _routes_lock:
        known = _routes.setdefault(client, _Routes())
    with known.lock:
        key = (scheduler, choice, settings)
        if key in known.found:
            return known.found[key]
        straight, why, certain = _judge(client, choice, settings)
        if straight:
            parts = {"url": settings.url if settings.ephemeral else None}
            route = Route(settings.url, False, why, client.id, parts)
        else:
            parts = _open_relay(client, known, scheduler, settings)
            route = Route(settings.url, True, why, client.id, parts)
            if say is not None:
                say(why)
        if certain:
            known.found[key] = route
        return route


def hurry(client: distributed.Client) -> None:
    """Let what this process keeps back for the Prefect API go out, since a flow run has ended."""
    known = _routes.get(client)
    if known is not None and known.answering is not None:
        known.answering.hurry()


def _judge(client: distributed.Client, choice: str, api: ApiSettings) -> tuple[bool, str, bool]:
    """Tell whether workers go straight to the API, why, and whether that stays so."""
    if client.scheduler.address.startswith("inproc:"):
        return True, "the workers are in this process, and reach the Prefect API as it does", True
    if not api.url:
        return True, "Prefect is told of no API", True
    if choice == "direct":
        return True, "daskenv.prefect.route says so", True
    through = f"the workers reach the Prefect API at {api.url} through this process"
    if choice == "relay":
        return False, f"{through}: daskenv.prefect.route says so", True
    if api.secret:
        return False, f"{through}: the settings hold {api.secret}, which stays here", True
    here = mark_of_api(api.url, verify=_verification(api))
    if here is None:
        return False, f"{through}: whether they could reach it themselves cannot be told", True
    seen = _ask_scheduler(
        client,
        lambda: client.run(mark_from_worker, api.url, verify=api.verify, on_error="return"),
    )
    if not seen:
        return False, f"{through}: no worker is there yet to ask whether it could", False
    apart = [worker for worker, mark in seen.items() if mark != here]
    if not apart:
        return True, f"the workers reach the Prefect API at {api.url} themselves", True
    others = f" and {len(apart) - 1} more" if len(apart) > 1 else ""
    return False, f"{through}: {apart[0]}{others} cannot reach it", True


def _open_relay(
    client: distributed.Client, known: _Routes, scheduler: str, settings: ApiSettings
) -> dict[str, Any]:
    if known.answering is None:
        known.answering = Answering(client)
    if scheduler not in known.schedulers:
        _ask_scheduler(client, lambda: client.register_plugin(Relay()))
        known.schedulers.add(scheduler)
    door = known.answering.door(settings)
    return {"door": door.name, "limit": settings.timeout, "csrf": settings.csrf}


def _verification(api: ApiSettings) -> Any:
    if api.verify and api.ssl_cert_file:
        return ssl.create_default_context(cafile=api.ssl_cert_file)
    return api.verify


def _ask_scheduler(client: distributed.Client, call: Callable[[], Any]) -> Any:
    limit = config.seconds("timeouts.connect")
    try:
        return in_background(call).result(limit)
    except TimeoutError as error:
        raise WaitTimeout(
            f"the cluster at {client.scheduler.address} does not answer within {limit:g} s; look "
            "at its log or dashboard, or set daskenv.prefect.route"
        ) from error
    except OSError as error:
        raise ClusterGone(
            f"the connection to {client.scheduler.address} broke ({error}); look at the cluster "
            "with `daskenv status`, and run the flow again"
        ) from error
