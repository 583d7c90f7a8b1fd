"""Options that several verbs take, and how their values are read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_F = TypeVar("_F", bound="Callable[..., Any]")


def duration(value: str) -> float:
    """Read a time such as ``30m`` or ``90``, in seconds.

    Raises
    ------
    click.BadParameter
        It is none.

    Examples
    --------
    >>> duration("30m"), duration("90")
    (1800.0, 90.0)
    """
    from dask.utils import parse_timedelta

    try:
        seconds = float(parse_timedelta(value, default="s"))
    except (TypeError, ValueError, KeyError, AttributeError):
        seconds = -1.0
    if not math.isfinite(seconds) or seconds < 0:
        raise click.BadParameter(f"{value!r} is no duration; write it as 90, '30m' or '2 hours'")
    return seconds


def named(verb: _F) -> _F:
    """Let a verb be told which cluster."""
    say = "The cluster; by default the one used last here, else daskenv.name."
    return click.option("--name", metavar="NAME", help=say)(verb)


def in_json(verb: _F) -> _F:
    """Let a verb answer in JSON."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON alone.")(verb)


def rehearsing(verb: _F) -> _F:
    """Let a verb work on the emulated AWS account of this machine."""
    say = "In the emulated AWS account on this machine."
    return click.option("--rehearse", is_flag=True, help=say)(verb)
