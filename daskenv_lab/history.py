"""The last flow runs' reports, kept in the state folder, so that every kernel sees them all."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import logging
import re
import reprlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskenv_lab import config
from daskenv_lab.errors import ReportError, StateError
from daskenv_lab.private import write_private
from daskenv_lab.report import FlowRunReport

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("daskenv_lab")
_SUFFIX = ".json.gz"

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 1000
_shown.maxlist = _shown.maxtuple = _shown.maxdict = _shown.maxset = 20


def keep(report: FlowRunReport) -> Path | None:
    """Write a report into the state folder, and remove the oldest beyond ``daskenv.runs.keep``.

    Returns
    -------
    Path or None
        The file; None where none are to be kept.

    Raises
    ------
    StateError
        It cannot be written.

    Examples
    --------
    >>> keep(report)  # doctest: +SKIP
    PosixPath('/home/ada/.local/state/daskenv_lab/runs/20261122T181500.123456-….json.gz')
    """
    most = config.whole("runs.keep")
    if not most:
        return None
    stamp = report.start.strftime("%Y%m%dT%H%M%S.%f")
    path = _folder() / f"{stamp}-{_plain(report.flow_run_id)}{_SUFFIX}"
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, gzip.compress(json.dumps(_brief(report)).encode(), compresslevel=3))
    except OSError as error:
        raise StateError(
            f"the report {path} cannot be written ({error.strerror}); make room, or set "
            "daskenv.runs.keep to 0"
        ) from error
    for old in _files()[most:]:
        with contextlib.suppress(OSError):
            old.unlink()
    return path


def last(
    n: int = 20, *, cluster: str | None = None, flow: str | None = None
) -> list[FlowRunReport]:
    """Give the last reports, the newest first; damaged files are told in the log, and left out.

    Parameters
    ----------
    n : int
        At most so many.
    cluster, flow : str, optional
        Only those of a cluster, or of a flow, by name.

    Examples
    --------
    >>> [report.state for report in last(2)]  # doctest: +SKIP
    ['Completed', 'Failed']
    """
    found: list[FlowRunReport] = []
    for report in _reports():
        if len(found) >= n:
            break
        if cluster in (None, report.cluster) and flow in (None, report.flow):
            found.append(report)
    return found


def load(path: str | Path) -> FlowRunReport:
    """Read one report.

    Raises
    ------
    ReportError
        The file is no report, is damaged, or comes from another version.

    Examples
    --------
    >>> load("run.json.gz").flow  # doctest: +SKIP
    'etl'
    """
    place = Path(path)
    try:
        data = place.read_bytes()
        text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        return FlowRunReport.from_dict(json.loads(text))
    except (OSError, EOFError, ValueError) as error:
        raise ReportError(
            f"the report {place} cannot be read ({error}); run the flow again, or name another file"
        ) from error


def _brief(report: FlowRunReport) -> dict[str, Any]:
    """Write a report down, with no more than the beginning of what the flow gave back."""
    plain = report.value is None or isinstance(report.value, bool | int | float)
    return replace(report, value=report.value if plain else _shown.repr(report.value)).to_dict()


def newest() -> str:
    """Name the newest report, to see cheaply whether there is another."""
    files = _files()
    return files[0].name if files else ""


def _reports() -> Iterator[FlowRunReport]:
    for path in _files():
        try:
            yield _loaded(path)
        except ReportError as error:
            _log.warning("%s", error)


@functools.lru_cache(maxsize=64)
def _loaded(path: Path) -> FlowRunReport:
    """Read a report once: its file is written once."""
    return load(path)


def _files() -> list[Path]:
    return sorted(_folder().glob(f"[0-9]*{_SUFFIX}"), reverse=True)


def _folder() -> Path:
    return config.state_dir() / "runs"


def _plain(flow_run_id: str) -> str:
    return re.sub(r"[^0-9A-Za-z-]", "", flow_run_id)[:64] or "unknown"
