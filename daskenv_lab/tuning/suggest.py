"""Which cluster to take: the frontier of time against cost, and what stands out on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from daskenv_lab.phrases import memory, span
from daskenv_lab.tuning.candidates import HEADROOM, bought_otherwise, described, fitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from daskenv_lab.environments import Environment
    from daskenv_lab.tuning.candidates import Candidate, Conditions
    from daskenv_lab.tuning.predict import Model, Prediction


TRIED = 5
"""Clusters that are predicted in full where nothing on the frontier keeps a bound."""

_Kind = TypeVar("_Kind")

GAIN = 0.02
"""The part of the time that a dearer cluster must save at least to be on the frontier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """One cluster, what the flow run would take on it, and why it is suggested."""

    environment: Environment
    """It can be applied with `Session.apply`, exported and registered."""

    prediction: Prediction
    why: str
    """A sentence with the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What every cluster that was looked at would take and cost, and which stand out."""

    flow: str
    looked_at: int
    """The number of clusters."""

    frontier: tuple[Suggestion, ...]
    """Those that no other one beats in both time and cost, the cheapest first."""

    cheapest: Suggestion | None
    """The cheapest under the deadline."""

    fastest: Suggestion | None
    """The fastest under the budget."""

    knee: Suggestion | None
    """From which on more money buys little time."""

    adaptive: str
    """Whether a number of workers that follows the load would do better, in a sentence."""

    money: bool
    """Whether costs are US dollars; if nobody knows a price, they are hours of workers."""

    source: str = ""
    """Where prices come from."""

    otherwise: Mapping[str, float] = field(default_factory=dict)
    """US dollars of the knee's run on ``Spot``, ``ARM`` and ``ARM Spot``, where there are such."""

    deadline: float | None = None
    """Seconds that a run may take, if that was said."""

    budget: float | None = None
    """US dollars, or hours of workers, that it may cost, if that was said."""

    model: Model | None = field(default=None, repr=False, compare=False)
    """What was known of the flow."""


def advise(
    model: Model,
    candidates: Iterable[Candidate],
    *,
    flow: str,
    conditions: Conditions,
    deadline: float | None = None,
    budget: float | None = None,
) -> Advice:
    """Predict the flow on many clusters, and say which stand out.

    Parameters
    ----------
    model : Model
        What is known of the flow.
    candidates : iterable of Candidate
        The clusters.
    flow : str
        The flow's name.
    conditions : Conditions
        What holds for all of them.
    deadline : float, optional
        Seconds that the flow run may take; the cheapest cluster is one that keeps it.
    budget : float, optional
        US dollars, or hours of workers where nobody knows a price, that it may cost.
    """
    looked = [_glanced(model, candidate, conditions) for candidate in candidates]
    possible = [(c, p) for c, p in looked if not p.fault and math.isfinite(p.seconds.likely)]
    money = any(p.cost is not None for _, p in possible)

    def suggested(candidate: Candidate) -> Suggestion:
        found = model.predict(candidate.size, candidate.rate)
        return Suggestion(
            environment=candidate.environment, prediction=found, why=_why(found, candidate)
        )

    closer = [suggested(candidate) for candidate, _ in _frontier(possible)]
    # With durations drawn anew, one may turn out to be beaten by another.
    kept = _frontier((said, said.prediction) for said in closer)
    said = [suggestion for suggestion, _ in kept]
    knee = _knee(said)
    rates = bought_otherwise(knee.environment, conditions) if knee else {}
    return Advice(
        flow=flow,
        looked_at=len(looked),
        frontier=tuple(said),
        cheapest=_least(said, possible, suggested, price, _seconds, deadline),
        fastest=_least(said, possible, suggested, _seconds, price, budget),
        knee=knee,
        adaptive=_adaptive(possible),
        money=money,
        source=next((c.rate.source for c, _ in possible if c.rate), ""),
        otherwise={
            word: price(model.glance(knee.prediction.size, rate)) for word, rate in rates.items()
        }
        if knee
        else {},
        deadline=deadline,
        budget=budget,
        model=model,
    )


def price(prediction: Prediction) -> float:
    """Give US dollars; or, where nobody knows a price, hours of workers."""
    if prediction.cost is not None:
        return prediction.cost.likely
    return prediction.worker_seconds.likely / 3600


def _glanced(
    model: Model, candidate: Candidate, conditions: Conditions
) -> tuple[Candidate, Prediction]:
    found = model.glance(candidate.size, candidate.rate)
    if not candidate.on_fargate or found.fault:
        return candidate, found
    # Its memory costs, so that the smallest is taken that holds what was found to be needed.
    environment = fitted(candidate.environment, found.peak_memory.likely)
    if environment is None:
        return candidate, replace(found, fault="no memory of this CPU holds what a worker needs")
    smaller = described(environment, conditions)
    return smaller, model.glance(smaller.size, smaller.rate)


def _frontier(possible: Iterable[tuple[_Kind, Prediction]]) -> list[tuple[_Kind, Prediction]]:
    """Keep what no other beats in both time and cost, the cheapest first."""
    kept: list[tuple[_Kind, Prediction]] = []
    best = math.inf
    for candidate, prediction in sorted(
        possible, key=lambda one: (price(one[1]), one[1].seconds.likely)
    ):
        if prediction.seconds.likely < best * (1 - GAIN):
            best = prediction.seconds.likely
            kept.append((candidate, prediction))
    return kept


def _seconds(prediction: Prediction) -> float:
    return prediction.seconds.likely


def _least(
    said: Sequence[Suggestion],
    possible: Iterable[tuple[Candidate, Prediction]],
    suggested: Callable[[Candidate], Suggestion],
    wanted: Callable[[Prediction], float],
    bounded: Callable[[Prediction], float],
    bound: float | None,
) -> Suggestion | None:
    """Give the suggestion with the least of one figure, of those within a bound of another.

    What the frontier leaves out, since it gains little, counts where nothing else keeps the bound.
    """
    within = [s for s in said if bound is None or bounded(s.prediction) <= bound]
    if within or bound is None:
        return min(within, key=lambda s: wanted(s.prediction), default=None)
    others = sorted(
        ((c, p) for c, p in possible if bounded(p) <= bound), key=lambda one: wanted(one[1])
    )
    found = (suggested(candidate) for candidate, _ in others[:TRIED])
    return next((s for s in found if bounded(s.prediction) <= bound), None)


def _knee(said: Sequence[Suggestion]) -> Suggestion | None:
    """Find the point that is farthest below the straight line between the frontier's ends.

    On logarithmic axes, as "Finding a 'Kneedle' in a Haystack" (Satopaa et al., 2011) normalises
    both axes: twice the price is as far everywhere.
    """
    if len(said) < 3:
        return said[0] if said else None
    points = [(math.log(max(price(s.prediction), 1e-12)), _log_time(s)) for s in said]
    (x0, y0), (x1, y1) = points[0], points[-1]
    if x1 == x0 or y0 == y1:
        return said[0]
    below = [(x1 - x) / (x1 - x0) - (y - y1) / (y0 - y1) for x, y in points]
    return said[below.index(max(below))]


def _log_time(suggestion: Suggestion) -> float:
    return math.log(max(suggestion.prediction.seconds.likely, 1e-9))


def _adaptive(possible: Sequence[tuple[Candidate, Prediction]]) -> str:
    fixed = [p for c, p in possible if not c.size.adaptive]
    adapting = [p for c, p in possible if c.size.adaptive]
    if not fixed or not adapting:
        return "Only one of fixed and adaptive sizes was looked at."
    best, other = (min(ps, key=lambda p: p.seconds.likely) for ps in (fixed, adapting))
    cheap, cheap_other = (min(ps, key=price) for ps in (fixed, adapting))
    asked = max((p.size.maximum or 0) for p in adapting)
    if other.seconds.likely < best.seconds.likely * (1 - GAIN):
        return (
            f"Adaptive pays: its fastest size takes {seconds_of(other)}, the fastest fixed one "
            f"{seconds_of(best)}."
        )
    if price(cheap_other) < price(cheap) * (1 - GAIN):
        saved = 1 - price(cheap_other) / price(cheap)
        return (
            f"Adaptive pays: its cheapest size costs {saved:.0%} less than the cheapest fixed one, "
            f"and takes {seconds_of(cheap_other)}, where that takes {seconds_of(cheap)}."
        )
    return (
        f"Fixed sizes do better: the fastest adaptive size takes {seconds_of(other)}, the fastest "
        f"fixed one {seconds_of(best)}; while workers start, which takes "
        f"{span(other.size.startup)}, adaptive scaling asks for more, up to {asked}."
    )


def seconds_of(prediction: Prediction) -> str:
    """Say a predicted time."""
    seconds = prediction.seconds.likely
    return f"{seconds:.1f} s" if seconds < 100 else span(seconds)


def _why(prediction: Prediction, candidate: Candidate) -> str:
    kept = ""
    if candidate.on_fargate:
        most = prediction.peak_memory.high
        room = candidate.size.memory / most - 1 if most else 0
        kept = (
            f"; a worker holds {memory(most)} at most, so that {memory(candidate.size.memory)} "
            f"leave {room:.0%} of headroom (at least {HEADROOM - 1:.0%} is kept)"
        )
    return f"{prediction.limit.why}{kept}"
