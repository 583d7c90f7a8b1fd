"""An `on_execute` that sizes each flow run's cluster by one of its parameters."""

from __future__ import annotations

import itertools
import linecache
import math
import re
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import ReportError, did_you_mean
from daskenv_lab.tuning.candidates import COUNTS
from daskenv_lab.tuning.given import seconds, several
from daskenv_lab.tuning.predict import Model
from daskenv_lab.tuning.record import worker_of
from daskenv_lab.tuning.size import Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from daskenv_lab.report import FlowRunReport

_PARAMETER = re.compile(r"(?:len\((?P<counted>[^\W\d]\w*)\)|(?P<plain>[^\W\d]\w*))")
_numbers = itertools.count(1)


def sizer(
    reports: FlowRunReport | Iterable[FlowRunReport],
    *,
    by: str,
    deadline: float | str,
    most: int = 64,
    startup: float = 0.0,
) -> Callable[[Mapping[str, Any], dict[str, Any]], None]:
    """Make an `on_execute` that asks for as few workers as keep a deadline.

    How long a run takes is predicted for each of the runs, on each number of workers, and a line
    is laid through the predictions. Runs at different values of the parameter show what does not
    grow with it; of one value alone, the time is taken to grow in proportion beyond it, and to be
    no less below. The function that is made is plain Python, has its own source, and needs no
    package; it is exported with the environment.

    Parameters
    ----------
    reports : FlowRunReport or iterable
        Runs of one flow, best at several values of the parameter.
    by : str
        A parameter that is a number, as ``"days"``, or the length of one, as ``"len(x)"``.
    deadline : float or str
        The time that a run may take: seconds, or such as ``"10m"``.
    most : int
        At most so many workers, which are also asked for where none would keep the deadline.
    startup : float
        Seconds that workers take to start, which are part of the run.

    Raises
    ------
    ReportError
        The runs do not tell the parameter, or the deadline is no time.

    Examples
    --------
    >>> small, large = daskenv_lab.run(etl, x=[1] * 10), daskenv_lab.run(etl, x=[1] * 100)
    ... # doctest: +SKIP
    >>> hook = sizer([small, large], by="len(x)", deadline=60)  # doctest: +SKIP
    >>> DaskGatewayEnvironment("local", on_execute=hook)  # doctest: +SKIP
    """
    runs, limit = several(reports), seconds(deadline)
    if not runs:
        raise ReportError("no report was given; give one of a flow run that completed")
    points = _points(runs, by)
    nthreads = worker_of(runs[0]).nthreads
    counts = [n for n in COUNTS if n <= most]
    steps: list[tuple[float, int]] = []
    for n in counts:
        size = Size(n_workers=n, startup=startup, nthreads=nthreads, fresh=startup > 0)
        times = [(value, model.predict(size).seconds.likely) for value, model in points]
        reach = _reach(times, limit)
        if reach > (steps[-1][0] if steps else 0.0):
            steps.append((reach, n))
        if math.isinf(reach):
            break
    return _function(by, limit, runs[0].flow, steps, counts[-1])


def _points(runs: Sequence[FlowRunReport], by: str) -> list[tuple[float, Model]]:
    if _PARAMETER.fullmatch(by) is None:
        raise ReportError(
            f"by={by!r} is no parameter; give its name, or the length of one, as 'len(x)'"
        )
    grouped: dict[float, list[FlowRunReport]] = {}
    for run in runs:
        if by not in run.measures:
            raise ReportError(
                f"the run {run.flow_run_name!r} of {run.flow!r} has no number {by!r}; "
                f"{did_you_mean(by, sorted(run.measures))}"
            )
        grouped.setdefault(run.measures[by], []).append(run)
    return [(value, Model.of(grouped[value])) for value in sorted(grouped)]


def _reach(times: Sequence[tuple[float, float]], deadline: float) -> float:
    """Give the greatest value at which a line through the times keeps the deadline.

    The line is that of least squares; it never falls, since more data take no less time. Through
    one point goes that of proportion, which does not hold below it.
    """
    if len(times) == 1:
        ((value, seconds),) = times
        return value * deadline / seconds if 0 < seconds <= deadline else 0.0
    mean_value = sum(value for value, _ in times) / len(times)
    mean_time = sum(seconds for _, seconds in times) / len(times)
    spread = sum((value - mean_value) ** 2 for value, _ in times)
    together = sum((value - mean_value) * (seconds - mean_time) for value, seconds in times)
    slope = max(together / spread, 0.0)
    start = mean_time - slope * mean_value
    if slope * mean_value < 1e-6 * max(mean_time, 1e-9):
        return math.inf if mean_time <= deadline else 0.0
    return max((deadline - start) / slope, 0.0)


def _function(
    by: str, deadline: float, flow: str, steps: Sequence[tuple[float, int]], most: int
) -> Callable[[Mapping[str, Any], dict[str, Any]], None]:
    """Make the function from its source, so that an export can write it down."""
    matched = _PARAMETER.fullmatch(by)
    assert matched is not None  # noqa: S101 - `_points` has looked
    counted = matched["counted"]
    name = f"size_by_{counted or matched['plain']}"
    amount = f'parameters["{counted or matched["plain"]}"]'
    rows = [
        f"        ({math.inf if math.isinf(reach) else math.floor(reach * 1000) / 1000}, {n}),"
        for reach, n in steps
    ]
    source = "\n".join(
        [
            f"def {name}(parameters, provider_kwargs):",
            f'    """Ask for as few workers as end {_words(flow)} within {deadline:g} s, as',
            "    earlier runs foretold.",
            '    """',
            f"    amount = {f'len({amount})' if counted else amount}",
            "    steps = (",
            *[row.replace("(inf,", '(float("inf"),') for row in rows],
            "    )",
            "    enough = (workers for most, workers in steps if amount <= most)",
            f'    provider_kwargs["n_workers"] = next(enough, {most})',
            "",
        ]
    )
    file = f"<daskenv_lab sizer {next(_numbers)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    # No module of this name exists, so that it travels by value and is exported by its source.
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, file, "exec"), namespace)  # noqa: S102 - our own text, names checked
    made: Callable[[Mapping[str, Any], dict[str, Any]], None] = namespace[name]
    return made


def _words(flow: str) -> str:
    """Keep of a flow's name what can stand in a docstring."""
    return re.sub(r"[^\w .-]", "", flow) or "the flow"
