"""The private way to a running rehearsal's server, beside the AWS API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import ProviderUnreachable, UnknownNameError

if TYPE_CHECKING:
    from daskenv_lab.rehearsal.place import Rehearsal

SECRET_HEADER = "X-Daskenv-Secret"  # noqa: S105 - the header's name
PATH = "/daskenv/"
_LIMIT = 15.0
_HEALTH_LIMIT = 5.0


def ask(here: Rehearsal, method: str, what: str, body: Any = None) -> dict[str, Any]:
    """Send an order or a question to a rehearsal.

    Raises
    ------
    UnknownNameError
        It does not know what is asked about.
    ProviderUnreachable
        It does not answer, or refuses.
    """
    request = urllib.request.Request(  # noqa: S310 - an address of this machine, from our record
        f"{here.endpoint}{PATH}{what}",
        data=None if body is None else json.dumps(body).encode(),
        headers={SECRET_HEADER: here.secret, "Content-Type": "application/json"},
        method=method,
    )
    try:
        with _direct().open(request, timeout=_LIMIT) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        told = error.read().decode("utf-8", "replace")
        if error.code == 404:
            raise UnknownNameError(told) from error
        raise ProviderUnreachable(
            f"the rehearsal at {here.endpoint} refused {what} ({error.code}: {told}); start it "
            "again with `daskenv rehearse stop` and `daskenv rehearse start`"
        ) from error
    except (OSError, ValueError) as error:
        raise ProviderUnreachable(
            f"the rehearsal at {here.endpoint} does not answer {what} ({error}); start it again "
            "with `daskenv rehearse stop` and `daskenv rehearse start`"
        ) from error


def healthy(endpoint: str) -> bool:
    """Tell whether a rehearsal answers there."""
    try:
        with _direct().open(f"{endpoint}{PATH}health", timeout=_HEALTH_LIMIT) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def _direct() -> urllib.request.OpenerDirector:
    # The user's proxy has no business between us and this machine.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
