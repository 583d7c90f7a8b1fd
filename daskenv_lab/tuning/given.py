"""What users give: reports, one or several, and times as they write them."""

from __future__ import annotations

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
    try:
        return float(parse_timedelta(time, default="s"))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ReportError(f"{time!r} is no time; write it as 90, '10m' or '2 hours'") from error
