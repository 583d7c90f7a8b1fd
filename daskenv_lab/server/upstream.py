"""From a cluster's name to its dashboard: by this user's record and its provider alone."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from daskenv_lab.errors import ClusterGone, ProviderError, SessionError
from daskenv_lab.server.panes import root_of
from daskenv_lab.server.ticket import mark_of

if TYPE_CHECKING:
    from daskenv_lab.registry import Record
    from daskenv_lab.server.ticket import Ticket

_REMEMBERED = 60.0
"""Seconds for which a dashboard's address is not looked up again; a look is a Dask client."""

# What may stand in a path as it is (RFC 3986), and bytes that are written with a per cent sign.
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*")
_JUPYTERS_OWN = {"token", "_xsrf"}
_PORTS = {"http": 80, "https": 443}


class WrongPath(ProviderError):
    """A path or a redirect would leave the dashboard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where one cluster's dashboard is.

    Examples
    --------
    >>> upstream = Upstream(name="dev", mark="", root="http://127.0.0.1:8787/clusters/8f3e")
    >>> upstream.address("status", "theme=dark")
    'http://127.0.0.1:8787/clusters/8f3e/status?theme=dark'
    >>> upstream.within("http://127.0.0.1:8787/clusters/8f3e/", "status")
    'status'
    """

    name: str
    mark: str
    """Stands for the cluster; see `mark_of`."""

    root: str
    """The address before the pages, without a slash at its end."""

    @property
    def origin(self) -> str:
        """The origin that the dashboard believes its pages to have."""
        parts = urlsplit(self.root)
        return f"{parts.scheme}://{parts.netloc}"

    def address(self, path: str, query: str = "") -> str:
        """Give the address of a page, by its path and query as they came, still encoded.

        Raises
        ------
        WrongPath
            The path would leave the dashboard, or has signs that no path has.
        """
        if not _stays(path) or not _QUERY.fullmatch(query):
            raise WrongPath(f"the path {path[:80]!r} is none of the dashboard of {self.name!r}")
        kept = "&".join(p for p in query.split("&") if not _jupyters(p))
        return f"{self.root}/{path}" + (f"?{kept}" if kept else "")

    def within(self, base: str, location: str) -> str:
        """Give the path and query, below the dashboard, to which a redirect leads.

        Raises
        ------
        WrongPath
            It leads elsewhere.
        """
        try:
            there, ours = urlsplit(urljoin(base, location)), urlsplit(self.root)
            same = _host(there.scheme, there.hostname, there.port) == _host(
                ours.scheme, ours.hostname, ours.port
            )
        except ValueError:
            same = False
        below = f"{ours.path}/" if same else ""
        if not same or "@" in there.netloc or not there.path.startswith(below):
            raise WrongPath(f"the dashboard of {self.name!r} wants to lead elsewhere")
        path = there.path[len(below) :]
        return self.address(path, there.query)[len(self.root) + 1 :]


class Upstreams:
    """Finds dashboards, and remembers for a short while where they are."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Upstream]] = {}
        self._looking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(self, name: str, *, fresh: bool = False) -> Upstream:
        """Give the dashboard of a recorded cluster; `fresh` asks the cluster in any case.

        Raises
        ------
        UnknownNameError
            No cluster of this user has the name.
        ClusterGone
            It does not run any more.
        SessionError
            It has no dashboard.
        """
        record = await asyncio.to_thread(_record, name)
        async with self._looking[name]:
            when, known = self._known.get(name, (0.0, None))
            recent = time.monotonic() - when < _REMEMBERED
            if known and recent and not fresh and known.mark == _mark(record):
                return known
            self.forget(name)
            found = await asyncio.to_thread(_look_up, record)
            self._known[name] = (time.monotonic(), found)
            return found

    async def allowed(self, ticket: Ticket) -> Upstream:
        """Give the dashboard that a ticket is for.

        Raises
        ------
        ClusterGone
            Its cluster does not run any more, or the name stands for another by now.
        UnknownNameError
            Its cluster is not in this user's record any more.
        """
        upstream = await self.of(ticket.name)
        if upstream.mark != ticket.mark:
            raise _replaced(ticket.name)
        return upstream

    async def stands(self, ticket: Ticket) -> bool:
        """Tell whether the record still holds the cluster that a ticket is for."""
        try:
            record = await asyncio.to_thread(_record, ticket.name)
        except (ProviderError, LookupError):
            return False
        return _mark(record) == ticket.mark

    def forget(self, name: str) -> None:
        """Look the address up again when it is needed next."""
        self._known.pop(name, None)


def _record(name: str) -> Record:
    """Read the record of a cluster that was started."""
    from daskenv_lab import registry

    record = registry.known(name)
    if record.ref is None:
        raise ClusterGone(f"the cluster {name!r} was never started; start it with `daskenv up`")
    return record


def _look_up(record: Record) -> Upstream:
    """Ask a cluster where its dashboard is, and let go of it at once."""
    from daskenv_lab import config
    from daskenv_lab.providers import provider_for

    assert record.ref is not None  # noqa: S101 - `_record` has looked
    provider = provider_for(record.environment)
    connection = provider.connect(record.ref, timeout=config.seconds("timeouts.connect"))
    try:
        link = connection.dashboard_address
    finally:
        provider.close(connection)
    parts = urlsplit(link or "")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise SessionError(
            f"the cluster {record.name!r} has no dashboard; install bokeh where its scheduler "
            "runs, and start it again"
        )
    # A Gateway's address may hold a name and a password, which are not for a page's requests.
    root = root_of(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl())
    return Upstream(name=record.name, mark=_mark(record), root=root)


def _mark(record: Record) -> str:
    return mark_of(record.ref) if record.ref else ""


def _replaced(name: str) -> ClusterGone:
    return ClusterGone(
        f"the cluster that this page showed is gone, and {name!r} is another one by now; "
        "open its dashboard again, from the notebook"
    )


def _stays(path: str) -> bool:
    """Tell whether a path stays below what it is appended to, however often it is decoded."""
    if not _PATH.fullmatch(path) or path.startswith("/"):
        return False
    plain = unquote_to_bytes(path)
    if b"%" in plain or b"\\" in plain or any(byte < 32 or byte == 127 for byte in plain):
        return False
    return not {b".", b".."} & {part.partition(b";")[0] for part in plain.split(b"/")}


def _jupyters(parameter: str) -> bool:
    """Tell whether a part of a query is Jupyter's own, and no concern of a dashboard."""
    name = unquote_to_bytes(parameter.partition("=")[0].replace("+", " "))
    return name.decode("latin-1").strip().lower() in _JUPYTERS_OWN


def _host(scheme: str, hostname: str | None, port: int | None) -> tuple[str, str | None, int]:
    return scheme, hostname, port or _PORTS.get(scheme, 0)
