"""The pages of a dashboard, fetched for a browser that shows them in a sandbox.

A dashboard is not ours to trust: what answers at its address may be anything. So its pages get an
origin of their own (none), nothing of Jupyter's goes to it, and of its answers only the body and
a few plain headers come back.
"""

from __future__ import annotations

import asyncio
import html
import http
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders, HTTPInputError
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

from daskenv_lab.errors import DaskEnvLabError, ProviderUnreachable
from daskenv_lab.server.answers import status_of
from daskenv_lab.server.upstream import WrongPath

if TYPE_CHECKING:
    from daskenv_lab.server.ticket import Tickets
    from daskenv_lab.server.upstream import Upstream, Upstreams

_SENT_ON = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Cache-Control",
    "If-Modified-Since",
    "If-None-Match",
)
"""The request's headers that reach a dashboard; all others stay here."""

_PASSED_BACK = (
    "Cache-Control",
    "Content-Encoding",
    "Content-Type",
    "Etag",
    "Expires",
    "Last-Modified",
)
"""The headers of a dashboard's answer that reach the browser; all others stay here."""

_REDIRECTS = (301, 302, 303, 307, 308)
_CONNECT_TIME = 15.0
_AT_ONCE = 64
"""Requests to all dashboards at the same time; the others wait."""


class Fetching:
    """The client for all dashboards; its limits are read when it is first used."""

    def __init__(self) -> None:
        self._client: AsyncHTTPClient | None = None
        self.limit = 0.0
        """Seconds for a whole answer."""

    async def client(self) -> AsyncHTTPClient:
        """Give the client, which follows no redirects and knows no cookies."""
        if self._client is None:
            self.limit, largest = await asyncio.to_thread(_limits)
            self._client = self._client or AsyncHTTPClient(
                force_instance=True, max_clients=_AT_ONCE, max_body_size=largest
            )
        return self._client


@dataclass(slots=True)
class _Answer:
    """What has come of a dashboard's answer so far."""

    code: int = 0
    headers: HTTPHeaders = field(default_factory=HTTPHeaders)
    begun: bool = False
    refusal: DaskEnvLabError | None = None

    def heard(self, line: str) -> None:
        """Take a line of the head in; a first line begins anew, after an interim answer."""
        if line.startswith("HTTP/"):
            self.code, self.headers = int(line.split()[1]), HTTPHeaders()
        elif line.strip():
            self.headers.parse_line(line)


class PageHandler(RequestHandler):
    """Answers ``daskenv/dashboard/TICKET/PATH``, for whoever has the ticket."""

    SUPPORTED_METHODS = ("GET",)

    def initialize(self, tickets: Tickets, upstreams: Upstreams, fetching: Fetching) -> None:
        """Take what all requests share."""
        self.tickets = tickets
        self.upstreams = upstreams
        self.fetching = fetching

    def prepare(self) -> None:
        """Keep tickets out of the server's log."""
        self.asked = self.request.path
        self.request.uri = f"{self.below}***"

    @property
    def below(self) -> str:
        """The path of all dashboards."""
        return f"{self.settings['base_url']}daskenv/dashboard/"

    def set_default_headers(self) -> None:
        """Put the page into a sandbox, whatever frame or tab shows it."""
        framed = _ancestors(self.settings.get("headers", {}))
        self.set_header("Content-Security-Policy", f"sandbox allow-scripts; {framed}")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")

    def compute_etag(self) -> None:
        """Leave that to the dashboard."""

    @allow_unauthenticated
    async def get(self, *_: str) -> None:
        """Fetch a page for a ticket that has not run out."""
        try:
            word, path = self._parts()
            upstream = await self.upstreams.allowed(self.tickets.read(word))
            address = upstream.address(path, self.request.query)
            try:
                await self._relay(upstream, address, word)
            except ProviderUnreachable:
                # Perhaps it is gone: who looks it up again says so better.
                upstream = await self.upstreams.of(upstream.name, fresh=True)
                raise
        except DaskEnvLabError as error:
            self._refuse(error)

    def _parts(self) -> tuple[str, str]:
        """Split the path as it came, still encoded, into ticket and page."""
        word, slash, path = self.asked.removeprefix(self.below).partition("/")
        if not slash:
            raise WrongPath("this address of a dashboard has no page")
        return word, path

    async def _relay(self, upstream: Upstream, address: str, word: str) -> None:
        """Send an answer on while it comes.

        Raises
        ------
        ProviderUnreachable
            Nothing came of it, and nothing was sent yet.
        WrongPath
            It leads elsewhere.
        """
        client = await self.fetching.client()
        answer = _Answer()

        async def body(chunk: bytes) -> None:
            self._begin(answer, upstream, address, word)
            if answer.refusal is None:
                try:
                    self.write(chunk)
                    await self.flush()  # The dashboard waits for a slow reader, and not our memory.
                except StreamClosedError:
                    answer.refusal = WrongPath("nobody reads any more")

        request = HTTPRequest(
            address,
            headers=self.sent_on(),
            connect_timeout=_CONNECT_TIME,
            request_timeout=self.fetching.limit,
            follow_redirects=False,
            decompress_response=False,
            header_callback=answer.heard,
            streaming_callback=body,
            # tornado's names for a browser would be ours.
            user_agent="daskenv_lab",
        )
        try:
            await client.fetch(request, raise_error=False)
            self._begin(answer, upstream, address, word)
        except (HTTPClientError, HTTPInputError, OSError, ValueError) as error:
            if answer.begun:
                self._cut()
                return
            raise ProviderUnreachable(
                f"the dashboard of {upstream.name!r} does not answer as it should ({error}); "
                "look at `daskenv status` and at the scheduler's log"
            ) from error
        if answer.refusal is not None:
            raise answer.refusal
        await self.finish()

    def _begin(self, answer: _Answer, upstream: Upstream, address: str, word: str) -> None:
        """Pass the head of an answer on, once."""
        if answer.begun or answer.refusal is not None:
            return
        if not 200 <= answer.code <= 599:
            raise HTTPInputError(f"its status is {answer.code}")
        if answer.code in _REDIRECTS:
            try:
                path = upstream.within(address, answer.headers.get("Location", ""))
            except WrongPath as error:
                answer.refusal = error
                return
            self.set_header("Location", f"{self.below}{quote(word)}/{path}")
        self.set_status(answer.code, http.client.responses.get(answer.code, "Unknown"))
        for name in _PASSED_BACK:
            if name in answer.headers:
                self.set_header(name, answer.headers[name])
        answer.begun = True

    def sent_on(self) -> HTTPHeaders:
        """Give the few headers that a dashboard may see."""
        here = self.request.headers
        return HTTPHeaders({name: here[name] for name in _SENT_ON if name in here})

    def _cut(self) -> None:
        """Break the answer off, so that nobody takes what came for the whole."""
        connection: Any = self.request.connection
        connection.close()

    def _refuse(self, error: DaskEnvLabError) -> None:
        if not self._headers_written:
            self.send_error(status_of(error), sentence=str(error))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Show one sentence, as a page."""
        del status_code
        said = kwargs.get("sentence") or self._reason
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.finish(
            "<!doctype html><title>Dask dashboard</title>"
            "<body style='font: 14px sans-serif; margin: 1em'>"
            f"<p>The dashboard cannot be shown: {html.escape(said)}.</p>"
        )


def _limits() -> tuple[float, int]:
    from daskenv_lab import config

    return config.seconds("dashboard.answer-timeout"), config.size("dashboard.answer-limit")


def _ancestors(headers: dict[str, str]) -> str:
    """Say who may show the page in a frame: this server's pages, and who may show those.

    A course's web site, say, is given where Jupyter itself is shown in one. JupyterHub lets nobody
    frame Jupyter's pages (``'none'``), which then are the only ones around ours.

    Examples
    --------
    >>> _ancestors({"Content-Security-Policy": "frame-ancestors 'none'; report-uri /x"})
    "frame-ancestors 'self'"
    >>> _ancestors({"Content-Security-Policy": "frame-ancestors https://course.example.org"})
    "frame-ancestors 'self' https://course.example.org"
    """
    own = headers.get("Content-Security-Policy", "")
    parts = (part.split() for part in own.split(";"))
    said = next((words[1:] for words in parts if words[:1] == ["frame-ancestors"]), [])
    others = [word for word in said if word not in ("'self'", "'none'")]
    return " ".join(["frame-ancestors 'self'", *others])
