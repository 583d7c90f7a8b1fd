"""What `tune` found, as tables, points of a plot and timelines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from daskenv_lab.phrases import many, memory
from daskenv_lab.tuning.given import amount, seconds
from daskenv_lab.tuning.suggest import price, seconds_of
from daskenv_lab.view.call import Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from daskenv_lab.report import FlowRunReport
    from daskenv_lab.tuning import Advice, Prediction, Size, Suggestion

MOST_BARS = 1500
"""Tasks of a timeline that are drawn: the longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One suggestion in the plot of time against cost."""

    label: str
    """The cluster, such as ``8 workers``."""

    seconds: float
    low: float
    high: float
    price: float
    """US dollars, or hours of workers."""

    told: str
    """Time and price as they are read."""

    why: str
    marks: tuple[str, ...]
    """What it is: ``cheapest``, ``fastest``, ``knee``."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One task in a timeline."""

    worker: int
    """The worker's row, from 0."""

    start: float
    """Seconds from the flow run's start."""

    end: float
    task: str


def size_of(suggestion: Suggestion) -> str:
    """Say which cluster it is.

    Examples
    --------
    >>> size_of(advice.knee)  # doctest: +SKIP
    '8 workers of 1 vCPU and 2.0 GiB'
    """
    size = suggestion.prediction.size
    number = many(size.n_workers, "worker")
    if size.maximum is not None:
        number = f"{size.n_workers} to {many(size.maximum, 'worker')}"
    asked = suggestion.environment.extra
    if "worker_cpu" not in asked:
        return number
    return f"{number} of {asked['worker_cpu'] / 1024:g} vCPU and {memory(size.memory)}"


def table(advice: Advice) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Give the frontier as a head and rows of cells."""
    head = ("cluster", "time", "cost", "memory", "busy", "limited by")
    rows: list[tuple[str, ...]] = []
    for suggestion in advice.frontier:
        found = suggestion.prediction
        marks = _marks(advice, suggestion)
        rows.append(
            (
                size_of(suggestion) + (f" ({', '.join(marks)})" if marks else ""),
                _time(found),
                _cost(found),
                memory(found.peak_memory.high),
                f"{found.utilisation.likely:.0%}",
                found.limit.kind,
            )
        )
    return head, rows


def sentences(advice: Advice) -> list[str]:
    """Say what stands out, and why; or that no cluster would do."""
    if not advice.frontier:
        return [_none(advice)]
    fastest = min(advice.frontier, key=lambda s: s.prediction.seconds.likely)
    least = min(advice.frontier, key=lambda s: price(s.prediction))
    told = []
    for what, suggestion, bound in (
        ("Cheapest", advice.cheapest, _within(advice.deadline)),
        ("Fastest", advice.fastest, _for(advice)),
        ("Knee", advice.knee, ""),
    ):
        if suggestion is not None:
            took = seconds_of(suggestion.prediction)
            told.append(f"{what}{bound}: {size_of(suggestion)}, {took}: {suggestion.why}.")
        else:
            nearest = fastest if what == "Cheapest" else least
            told.append(
                f"{what}{bound}: none of {many(advice.looked_at, 'cluster')} does; nearest is "
                f"{size_of(nearest)} with {seconds_of(nearest.prediction)} and "
                f"{price_of(nearest.prediction)}."
            )
    if advice.otherwise:
        bought = ", ".join(f"${cost:.4f} on {word}" for word, cost in advice.otherwise.items())
        told.append(f"The knee's run would cost {bought}.")
    told.append(advice.adaptive)
    if not advice.money:
        told.append("Cost is in hours of workers; set daskenv.prices.worker-hour for US dollars.")
    elif advice.source:
        told.append(f"Prices: {advice.source}.")
    return told


def call(name: str, *, flow: str, deadline: str, budget: str, running: bool) -> Call:
    """Give the call that tunes, from what was typed; empty fields are left out.

    Raises
    ------
    ReportError
        A field holds something else than a time or an amount; the sentence says so.
    """
    asked: dict[str, Any] = {"name": name}
    if flow:
        asked["flow"] = flow
    if deadline.strip():
        asked["deadline"] = seconds(deadline.strip())
    if budget.strip():
        asked["budget"] = amount(budget.strip())
    if running:
        asked["fresh"] = False
    return Call(what="tune", arguments=asked)


def flows(reports: Iterable[FlowRunReport]) -> list[str]:
    """List the flows that can be tuned, the last run first."""
    return list(dict.fromkeys(r.flow for r in reports if r.ok and r.task_runs))


def points(advice: Advice) -> list[Point]:
    """Give the frontier as points of a plot, the cheapest first."""
    return [
        Point(
            label=size_of(suggestion),
            seconds=suggestion.prediction.seconds.likely,
            low=suggestion.prediction.seconds.low,
            high=suggestion.prediction.seconds.high,
            price=price(suggestion.prediction),
            told=f"{seconds_of(suggestion.prediction)}, {price_of(suggestion.prediction)}",
            why=suggestion.why,
            marks=_marks(advice, suggestion),
        )
        for suggestion in advice.frontier
    ]


def measured(report: FlowRunReport) -> list[Bar]:
    """Give the timeline of a run as it went."""
    rows: dict[str, int] = {}
    bars = []
    for run in report.task_runs:
        if run.start is not None and run.duration is not None and run.worker:
            begun = (run.start - report.start).total_seconds()
            row = rows.setdefault(run.worker, len(rows))
            bars.append(Bar(row, begun, begun + run.duration, run.task))
    return _longest(bars)


def foreseen(advice: Advice, size: Size) -> list[Bar]:
    """Give the timeline of a run as it would go on a cluster of a size."""
    if advice.model is None:
        return []
    nodes = advice.model.work.nodes
    placed = advice.model.timeline(size)
    return _longest([Bar(p.worker, p.start, p.end, nodes[p.node].task) for p in placed])


def written(advice: Advice) -> dict[str, Any]:
    """Write an advice down in JSON's types."""

    def one(suggestion: Suggestion | None) -> dict[str, Any] | None:
        if suggestion is None:
            return None
        prediction = asdict(suggestion.prediction)
        return {
            "cluster": size_of(suggestion),
            "why": suggestion.why,
            "environment": suggestion.environment.to_dict(),
            **{key: prediction[key] for key in ("seconds", "cost", "worker_seconds")},
            **{key: prediction[key] for key in ("peak_memory", "utilisation", "limit")},
        }

    return {
        "flow": advice.flow,
        "looked_at": advice.looked_at,
        "frontier": [one(suggestion) for suggestion in advice.frontier],
        "cheapest": one(advice.cheapest),
        "fastest": one(advice.fastest),
        "knee": one(advice.knee),
        "otherwise": dict(advice.otherwise),
        "adaptive": advice.adaptive,
        "prices": advice.source or None,
        "unit": "US dollars" if advice.money else "worker hours",
        "deadline": advice.deadline,
        "budget": advice.budget,
    }


def price_of(prediction: Prediction) -> str:
    """Say what a run costs."""
    if prediction.cost is not None:
        return f"${prediction.cost.likely:.4f}"
    return f"{prediction.worker_seconds.likely / 3600:.3f} worker hours"


def _marks(advice: Advice, suggestion: Suggestion) -> tuple[str, ...]:
    known = {"cheapest": advice.cheapest, "fastest": advice.fastest, "knee": advice.knee}
    return tuple(word for word, marked in known.items() if marked is suggestion)


def _within(deadline: float | None) -> str:
    return "" if deadline is None else f" within {deadline:g} s"


def _for(advice: Advice) -> str:
    if advice.budget is None:
        return ""
    return f" for ${advice.budget:g}" if advice.money else f" for {advice.budget:g} worker hours"


def _none(advice: Advice) -> str:
    """Say why no cluster that was looked at would do."""
    if not advice.looked_at or advice.model is None:
        return "No cluster was looked at; allow one worker at least."
    work = advice.model.work
    largest = max(work.nodes, key=lambda node: node.memory)
    return (
        f"None of {many(advice.looked_at, 'cluster')} would end the run: a worker that runs "
        f"{largest.task!r} needs {memory(work.worker_memory + largest.memory)} or more, which none "
        "of theirs may use; give workers more memory, or look at another profile."
    )


def _time(prediction: Prediction) -> str:
    """Say a time and its range, all in one unit."""
    likely = prediction.seconds.likely
    unit, each = ("s", 1) if likely < 100 else ("min", 60) if likely < 7200 else ("h", 3600)
    return _between([f"{figure / each:.1f}" for figure in prediction.seconds], f" {unit}")


def _cost(prediction: Prediction) -> str:
    """Say what a run costs and its range."""
    if prediction.cost is not None:
        return _between([f"${figure:.4f}" for figure in prediction.cost])
    hours = [f"{figure / 3600:.3f}" for figure in prediction.worker_seconds]
    return _between(hours, " worker hours")


def _between(figures: Sequence[str], unit: str = "") -> str:
    """Say a figure and, where they differ from it, the lowest and the highest."""
    likely, low, high = figures
    return f"{likely}{unit}" + (f" ({low} to {high})" if low != high else "")


def _longest(bars: Sequence[Bar]) -> list[Bar]:
    kept = sorted(bars, key=lambda bar: bar.start - bar.end)[:MOST_BARS]
    return sorted(kept, key=lambda bar: (bar.worker, bar.start))
