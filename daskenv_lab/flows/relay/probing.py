"""Asking workers whether they reach the Prefect API, and whether it is this one.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import Any

import cloudpickle

PROBE = 3.0
"""Seconds within which a worker must reach the API."""

MARK = "/block_types/slug/secret"
"""A path that every Prefect server answers, with an id that its database made at random."""


def mark_of_api(url: str, *, verify: Any = True, limit: float = PROBE) -> str | None:
    """Tell the mark of the API that answers at an address, as seen from here; None if none does.

    On another machine, ``127.0.0.1:4200`` may be another server.
    """
    import httpx

    try:
        with httpx.Client(timeout=limit, verify=verify, follow_redirects=True) as http:
            answer: Any = http.get(f"{url}{MARK}")
            return str(answer.json()["id"]) if answer.status_code == 200 else None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, TypeError, KeyError):
        return None


async def mark_from_worker(url: str, *, verify: bool) -> str | None:
    """Tell the same from a worker, beside its event loop."""
    call = functools.partial(mark_of_api, url, verify=verify)
    return await asyncio.get_running_loop().run_in_executor(None, call)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
