"""What users give: reports, one or several, and times and amounts as they write them."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

from dask.utils import parse_timedelta

from daskenv_lab.errors import ReportError
from daskenv_lab.report import FlowRunReport

if TYPE_CHECKING:
    from collections.abc import Iterable


def several(reports: FlowRunReport | Iterable[FlowRunReport]) -> list[FlowRunReport]:
    """Give reports as a list, also a single one."""
    return [reports] if isinstance(reports, FlowRunReport) else list(reports)


def seconds(time: float | str) -> float:
    """Read a time such as 90 or ``"10m"``, in seconds.

    Raises
    ------
    ReportError
        It is none.

    Examples
    --------
    >>> seconds("10m"), seconds(90)
    (600.0, 90.0)
    """
    with contextlib.suppress(TypeError, ValueError, KeyError, AttributeError):
        read = float(parse_timedelta(time, default="s"))
        if 0 <= read < math.inf:
            return read
    raise ReportError(f"{time!r} is no time; write it as 90, 30m or 2 hours")


def amount(money: float | str) -> float:
    """Read an amount such as 2.5 or ``"$2.50"``.

    Raises
    ------
    ReportError
        It is none.

    Examples
    --------
    >>> amount("$2.50"), amount(3)
    (2.5, 3.0)
    """
    with contextlib.suppress(TypeError, ValueError):
        read = float(money.removeprefix("$") if isinstance(money, str) else money)
        if 0 <= read < math.inf:
            return read
    raise ReportError(f"{money!r} is no amount; write it as 2.50")
