"""The verbs over HTTP, for widgets: they work while a kernel is busy, and when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from tornado import web

from daskenv_lab.errors import ClusterGone, CommandError, DaskEnvLabError
from daskenv_lab.server.answers import status_of
from daskenv_lab.server.panes import PANES, page_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from daskenv_lab.providers.connection import Connection
    from daskenv_lab.providers.contract import Provider
    from daskenv_lab.registry import Record
    from daskenv_lab.server.ticket import Tickets
    from daskenv_lab.server.upstream import Upstreams

RESOURCE = "daskenv"
"""What an authorizer of Jupyter Server is asked about."""

_changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
"""One change of a cluster at a time: a session of one would be closed under another."""


def _told(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[None]]:
    """Answer with what a method gives as JSON, or with an error's sentence."""

    @functools.wraps(method)
    async def answered(handler: APIHandler, *arguments: str) -> None:
        try:
            told = await method(handler, *arguments)
        except DaskEnvLabError as error:
            handler.set_status(status_of(error))
            told = {"message": str(error)}
        handler.finish(json.dumps(_finite(told), default=str))

    return answered


class _Reading(APIHandler):
    """Looking is nobody's activity: a panel looks by itself, and must not keep a server alive."""

    auth_resource = RESOURCE
    _track_activity = False


class _Changing(APIHandler):
    """Changing something is somebody's activity."""

    auth_resource = RESOURCE

    def body(self, *names: str) -> list[Any]:
        """Read what the request says about each name; None for what it does not mention.

        Raises
        ------
        CommandError
            It is no JSON object, or has other names.
        """
        try:
            said = json.loads(self.request.body or b"{}")
        except ValueError as error:
            raise CommandError("the request's body is no JSON") from error
        if not isinstance(said, dict) or set(said) - set(names):
            known = f"{', '.join(names)} alone" if names else "nothing in it"
            raise CommandError(f"the request takes a JSON object with {known}")
        return [said.get(name) for name in names]


class ClustersHandler(_Reading):
    """``GET daskenv/api/clusters``: the names in this user's record."""

    @web.authenticated
    @authorized
    @_told
    async def get(self) -> Any:
        """List them."""
        return await asyncio.to_thread(_names)


class ClusterHandler(_Changing):
    """``daskenv/api/clusters/NAME``: how it is, and its end."""

    @web.authenticated
    @authorized
    @_told
    async def get(self, name: str) -> Any:
        """Tell how it is, as `ClusterInfo.to_dict`."""
        self._track_activity = False
        return await asyncio.to_thread(_info, name)

    @web.authenticated
    @authorized
    @_told
    async def delete(self, name: str) -> Any:
        """Destroy it, and wait until it is gone."""
        async with _changing[await _known(name)]:
            await asyncio.to_thread(_down, name)
        return {"message": f"Stopped {name}"}


class ScaleHandler(_Changing):
    """``POST daskenv/api/clusters/NAME/scale {"n": 3}``."""

    @web.authenticated
    @authorized
    @_told
    async def post(self, name: str) -> Any:
        """Ask for so many workers."""
        (n,) = self.body("n")
        if n is None:
            raise CommandError("the number of workers is missing; send {'n': 3}")
        async with _changing[await _known(name)]:
            return await asyncio.to_thread(_size, name, n_workers=_count("n", n))


class AdaptHandler(_Changing):
    """``POST daskenv/api/clusters/NAME/adapt {"minimum": 1, "maximum": 4}``."""

    @web.authenticated
    @authorized
    @_told
    async def post(self, name: str) -> Any:
        """Let the number of workers follow the load."""
        minimum, maximum = self.body("minimum", "maximum")
        if minimum is None and maximum is None:
            raise CommandError("both bounds are missing; send {'minimum': 1, 'maximum': 4}")
        bounds = {"minimum": minimum, "maximum": maximum}
        given = {k: _count(k, v) for k, v in bounds.items() if v is not None}
        async with _changing[await _known(name)]:
            return await asyncio.to_thread(_size, name, **given)


class StopHandler(_Changing):
    """``POST daskenv/api/clusters/NAME/stop``: the end of its flow runs."""

    @web.authenticated
    @authorized
    @_told
    async def post(self, name: str) -> Any:
        """Ask them to end; does not wait."""
        self.body()
        await asyncio.to_thread(_stop, name)
        return {"message": f"Asked the flow runs on {name} to end"}


class TicketHandler(_Changing):
    """``POST daskenv/api/clusters/NAME/dashboard {"pane": "status"}``: where to see it."""

    _track_activity = False

    def initialize(self, tickets: Tickets, upstreams: Upstreams) -> None:
        """Take what all requests share."""
        self.tickets = tickets
        self.upstreams = upstreams

    @web.authenticated
    @authorized
    @_told
    async def post(self, name: str) -> Any:
        """Make a path that shows the dashboard for a while."""
        pane = self.body("pane")[0] or "status"
        if not isinstance(pane, str):
            raise CommandError(f"the pane is {pane!r}; it takes a word such as 'status'")
        path = await _path(self.settings["base_url"], self.tickets, self.upstreams, name, pane)
        return {"path": path, "panes": list(PANES)}


class OpenHandler(JupyterHandler):
    """``GET daskenv/open/NAME/PANE``: a link for a tab, which leads to a ticket of its own."""

    auth_resource = RESOURCE

    def initialize(self, tickets: Tickets, upstreams: Upstreams) -> None:
        """Take what all requests share."""
        self.tickets = tickets
        self.upstreams = upstreams

    @web.authenticated
    @authorized
    async def get(self, name: str, pane: str) -> None:
        """Lead to the dashboard, in whatever tab asks."""
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        try:
            path = await _path(self.base_url, self.tickets, self.upstreams, name, pane)
        except DaskEnvLabError as error:
            raise web.HTTPError(status_of(error), "%s", str(error)) from error
        self.redirect(path)


async def _path(base: str, tickets: Tickets, upstreams: Upstreams, name: str, pane: str) -> str:
    """Make a ticket for a cluster that runs, and give the path of its page."""
    page = page_of(pane)
    upstream = await upstreams.of(name, fresh=True)
    lifetime = await asyncio.to_thread(_lifetime)
    word = tickets.issue(name, upstream.mark, lifetime=lifetime)
    return f"{base}daskenv/dashboard/{word}/{page}"


def _lifetime() -> float:
    from daskenv_lab import config

    return config.seconds("dashboard.ticket-lifetime")


def _names() -> list[str]:
    from daskenv_lab import registry

    return registry.names()


async def _known(name: str) -> str:
    """Give a name back that is in this user's record."""
    if name not in await asyncio.to_thread(_names):
        await asyncio.to_thread(_info, name)  # Says why not.
    return name


def _info(name: str) -> dict[str, Any]:
    from dataclasses import replace

    with _reached(name) as (record, provider, connection):
        return replace(provider.info(connection), name=name, held=record.held).to_dict()


def _stop(name: str) -> None:
    with _reached(name) as (_, _, connection):
        connection.stop_flow_runs()


@contextlib.contextmanager
def _reached(name: str) -> Iterator[tuple[Record, Provider, Connection]]:
    """Connect to a cluster without a session, which may set its size again."""
    from daskenv_lab import config, registry
    from daskenv_lab.providers import provider_for

    record = registry.known(name)
    if record.ref is None:
        raise ClusterGone(f"the cluster {name!r} was never started; start it with `daskenv up`")
    provider = provider_for(record.environment)
    connection = provider.connect(record.ref, timeout=config.seconds("timeouts.connect"))
    try:
        yield record, provider, connection
    finally:
        provider.close(connection)


def _size(name: str, **size: int) -> dict[str, Any]:
    """Set a cluster's size, and let go of it at once: a client that stays keeps it alive."""
    from daskenv_lab import lifecycle

    session = lifecycle.connect(name)
    try:
        if "n_workers" in size:
            session.scale(size["n_workers"])
        else:
            session.adapt(**size)
        return session.info().to_dict()
    finally:
        session.close()


def _down(name: str) -> None:
    from daskenv_lab import inventory

    inventory.down(name)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CommandError(f"{name} is {value!r}; it takes a whole number from 0 upwards")
    return value


def _finite(told: Any) -> Any:
    """Replace the numbers that JSON does not have by their names."""
    if isinstance(told, float) and not math.isfinite(told):
        return str(told)
    if isinstance(told, dict):
        return {key: _finite(value) for key, value in told.items()}
    return [_finite(value) for value in told] if isinstance(told, list | tuple) else told
