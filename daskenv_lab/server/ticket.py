"""Tickets: the signed, short-lived part of a dashboard's path.

A page in a sandbox has no origin, and so sends no cookie: the path itself must say who may see
it. The key lives in this server's memory alone, so that a ticket of another server, or of this
one before it was started again, is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daskenv_lab.errors import DaskEnvLabError

if TYPE_CHECKING:
    from daskenv_lab.cluster import ClusterRef

_KEY_BYTES = 32
_NONCE_BYTES = 9


class TicketRefused(DaskEnvLabError):
    """A dashboard's path is forged, damaged, of another server, or too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a ticket allows: to see one cluster's dashboard until a moment.

    Examples
    --------
    >>> Ticket(name="dev", mark="", expires=0.0).name
    'dev'
    """

    name: str
    mark: str
    """Stands for the one cluster that has the name when the ticket is made; see `mark_of`."""

    expires: float
    """Seconds since 1970."""


class Tickets:
    """Makes tickets, and knows its own again.

    Examples
    --------
    >>> tickets = Tickets()
    >>> word = tickets.issue("dev", "", lifetime=60)
    >>> tickets.read(word).name
    'dev'
    >>> Tickets().read(word)
    Traceback (most recent call last):
    daskenv_lab.server.ticket.TicketRefused: this address is no dashboard's of this server
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_KEY_BYTES)

    def issue(self, name: str, mark: str, *, lifetime: float) -> str:
        """Make a ticket that holds for `lifetime` seconds, as a word for a path."""
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        said = json.dumps([name, mark, time.time() + lifetime, nonce]).encode()
        word = base64.urlsafe_b64encode(said).rstrip(b"=").decode()
        return f"{word}.{self._sign(word)}"

    def read(self, word: str, *, late: float = 0.0) -> Ticket:
        """Check a ticket; it may have run out `late` seconds ago.

        Raises
        ------
        TicketRefused
            It is not one of ours, or it has run out.
        """
        said, _, signature = word.partition(".")
        if not hmac.compare_digest(self._sign(said).encode(), signature.encode()):
            raise TicketRefused(
                "this address is no dashboard's of this server, or the server was started again; "
                "open the dashboard again, from the notebook"
            )
        name, mark, expires, _ = json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
        if time.time() > expires + late:
            raise TicketRefused(
                f"this address of the dashboard of {name!r} has run out; open it again, from the "
                "notebook (daskenv.dashboard.ticket-lifetime)"
            )
        return Ticket(name=name, mark=mark, expires=expires)

    def _sign(self, word: str) -> str:
        digest = hmac.digest(self._key, word.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def mark_of(ref: ClusterRef) -> str:
    """Give what stands for one cluster in a ticket, and tells nothing about it.

    Examples
    --------
    >>> from daskenv_lab import ClusterRef
    >>> len(mark_of(ClusterRef(provider="local", id="8f3e")))
    32
    """
    written = json.dumps(ref.to_dict(), sort_keys=True).encode()
    return hashlib.sha256(written).hexdigest()[:32]
