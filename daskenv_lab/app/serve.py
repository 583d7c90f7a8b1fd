"""Serve the page on this machine alone, to whoever has its token."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING, Any

import panel as pn
from bokeh.server.auth_provider import AuthProvider
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from daskenv_lab.app.page import page
from daskenv_lab.errors import ProviderError
from daskenv_lab.view.lab import lab_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HOST = "127.0.0.1"
_COOKIE = "daskenv"


def serve(
    name: str | None = None,
    flows: Sequence[str] = (),
    *,
    port: int = 0,
    show: bool = True,
    say: Callable[[str], Any] = print,
    wait: bool = True,
) -> str:
    """Serve the page of a named cluster on loopback.

    Who opens it must have the token in the address, as with JupyterLab: other users of the machine
    reach the port too, and the page starts clusters and runs code.

    Parameters
    ----------
    name : str, optional
        The cluster; by default ``daskenv.name``.
    flows : sequence of str
        Files or ``path.py:flow`` whose flows can be run.
    port : int
        0 takes a free one.
    show : bool
        Open the browser.
    say : callable
        Told the address.
    wait : bool
        Go on until Ctrl-C; otherwise it goes on in a thread.

    Returns
    -------
    str
        The address, with the token.

    Raises
    ------
    ConfigError
        The name could not be a cluster's.
    FlowNotFound
        A file has no flow.
    ProviderError
        The port is taken.

    Examples
    --------
    >>> serve("dev")  # doctest: +SKIP
    """
    lab = lab_of(name)
    found = _flows(flows)
    token = secrets.token_urlsafe(24)
    try:
        server: Any = pn.serve(
            {"/": lambda: page(lab, found)},
            address=_HOST,
            port=port,
            show=False,
            start=False,
            verbose=False,  # it would tell an address without the token
            title=f"daskenv: {lab.name}",
            auth_provider=_Token(token),
            cookie_secret=secrets.token_hex(16),
            # A notebook's own loop would serve nothing while a cell runs.
            loop=None if wait else IOLoop(make_current=False),
        )
    except OSError as error:
        raise ProviderError(
            f"the port {port} cannot be used ({error.strerror}); choose another with --port"
        ) from error
    address = f"http://{_HOST}:{server.port}/?token={token}"
    say(f"The page is at {address}")
    if show:
        server.io_loop.add_callback(server.show, f"/?token={token}")
    if wait:
        server.run_until_shutdown()
    else:
        threading.Thread(target=_go_on, args=(server,), daemon=True).start()
    return address


def _go_on(server: Any) -> None:
    """Serve in a thread, where no signal ends it."""
    server.start()
    server.io_loop.start()


def _flows(words: Sequence[str]) -> dict[str, Any]:
    """Find the flows that words mean: all of a file, or one."""
    from daskenv_lab.flows.loading import flows_at, load_flow

    found: dict[str, Any] = {}
    for word in words:
        found |= flows_at(word) if word.endswith(".py") else {word: load_flow(word)}
    return found


class _Token(AuthProvider):
    """Lets in who has the token, and then their browser by a cookie."""

    def __init__(self, token: str) -> None:
        self._token = token
        super().__init__()

    @property
    def get_user(self) -> Any:
        """The function that tells whether a request may pass."""

        def user(request: RequestHandler) -> str | None:
            given = request.get_query_argument("token", "")
            if given and secrets.compare_digest(given, self._token):
                request.set_secure_cookie(_COOKIE, "here", httponly=True, samesite="Strict")
                return "here"
            cookie = request.get_secure_cookie(_COOKIE)
            return "here" if cookie == b"here" else None

        return user

    @property
    def login_url(self) -> str:
        """Where who has no token is sent."""
        return "/login"

    @property
    def login_handler(self) -> type[RequestHandler]:
        """The page that says what is missing."""
        return _Missing


class _Missing(RequestHandler):
    def get(self) -> None:
        """Say what is missing."""
        self.set_status(403)
        self.finish("Open the address that `daskenv app` printed: it holds a token.")
