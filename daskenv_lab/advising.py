"""`tune`: what the flow runs that were recorded say about every other size of a cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from daskenv_lab import config, history, registry, session
from daskenv_lab.environments import (
    EMBEDDED,
    DaskCloudProviderEnvironment,
    RemoteDaskEnvironment,
)
from daskenv_lab.errors import ReportError, UnknownNameError, did_you_mean
from daskenv_lab.lifecycle import environment_for
from daskenv_lab.tuning import Advice, Conditions, Model, advise, candidates
from daskenv_lab.tuning.candidates import cores_of
from daskenv_lab.tuning.given import amount, seconds
from daskenv_lab.tuning.record import worker_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskenv_lab.environments import Environment
    from daskenv_lab.report import FlowRunReport

GATEWAY_INTERVAL = 3.0
"""Seconds between a Gateway's looks at a cluster's load, unless its administrator sets
``ClusterConfig.adaptive_period``."""

LOOKED_AT = 30
"""So many of the last reports are read, and only where the flow is not among them all."""

RUNS = 5
"""So many of the last runs are used; older code may have taken other times."""


def tune(
    flow: str | None = None,
    *,
    name: str | None = None,
    environment: Environment | str | None = None,
    reports: Sequence[FlowRunReport] | None = None,
    deadline: float | str | None = None,
    budget: float | None = None,
    most: int | None = None,
    startup: float | str | None = None,
    fresh: bool = True,
) -> Advice:
    """Say what a flow would take and cost on clusters of other sizes, and which to take.

    It starts nothing and asks nobody: it reads the reports of the last runs in the state folder,
    and simulates how Dask would run their tasks.

    Parameters
    ----------
    flow : str, optional
        The flow's name; by default that of the last run that completed.
    name : str, optional
        The cluster whose settings are varied; by default the one used last in this process, else
        the one named by ``daskenv.name``. If there is none, the default profile's are.
    environment : Environment or str, optional
        Other settings to vary, or a profile's name: what would it be on Fargate?
    reports : sequence of FlowRunReport, optional
        Runs of one flow, in the place of the last ones.
    deadline : float or str, optional
        The time that a run may take: seconds, or such as ``"10m"``.
    budget : float, optional
        US dollars that a run may cost; hours of workers where nobody knows a price.
    most : int, optional
        At most so many workers; by default ``daskenv.tune.most``.
    startup : float or str, optional
        The time that a worker takes to start; by default what was observed, or else
        ``daskenv.tune.startup``.
    fresh : bool
        Whether each run gets a cluster of its own, as in production; else it runs on one that
        is there, as in the lab.

    Raises
    ------
    ReportError
        There is no run to learn from, or a time or an amount is none.
    UnknownNameError
        No run of that flow was recorded; the nearest name is given.

    Examples
    --------
    >>> advice = daskenv_lab.tune("etl", deadline=600)  # doctest: +SKIP
    >>> advice.cheapest.environment  # doctest: +SKIP
    DaskGatewayEnvironment(gateway_address='local', n_workers=6)
    """
    runs = _runs(flow) if reports is None else list(reports)
    model = Model.of(runs)
    last = max((run for run in runs if run.ok), key=lambda run: run.start)
    varied, recorded_on = _environment(environment, name), _recorded_on(last)
    conditions = Conditions(
        recorded=worker_of(last),
        cores=cores_of(recorded_on or varied),
        machine=(os.cpu_count() or 0) if _is_here(varied) else 0,
        interval=_interval(varied, fresh),
        startup=_startup(runs, varied, recorded_on) if startup is None else seconds(startup),
        fresh=fresh,
        region=str(varied.extra.get("region_name") or _region()),
    )
    limit = config.whole("tune.most") if most is None else most
    return advise(
        model,
        candidates(varied, conditions, most=limit),
        flow=last.flow,
        conditions=conditions,
        deadline=None if deadline is None else seconds(deadline),
        budget=None if budget is None else amount(budget),
    )


def _runs(flow: str | None) -> list[FlowRunReport]:
    """Give the last runs of a flow that completed, the newest first."""
    known = [report for report in history.last(LOOKED_AT) if _tells(report)]
    wanted = flow or (known[0].flow if known else None)
    runs = [report for report in known if report.flow == wanted]
    if not runs:
        # Reading all reports takes seconds where they are large.
        known = [report for report in history.last(config.whole("runs.keep")) if _tells(report)]
        wanted = flow or (known[0].flow if known else None)
        runs = [report for report in known if report.flow == wanted]
    if not known:
        raise ReportError(
            "no flow run with tasks was recorded that completed; run a flow with `%daskenv run` or "
            "`daskenv_lab.run`, and tune then"
        )
    if not runs:
        raise UnknownNameError(
            f"no run of the flow {wanted!r} was recorded; "
            f"{did_you_mean(str(wanted), sorted({report.flow for report in known}))}"
        )
    return runs[:RUNS]


def _is_here(environment: Environment) -> bool:
    """Whether all workers are on this machine."""
    return getattr(environment, "gateway_address", None) == EMBEDDED


def _tells(report: FlowRunReport) -> bool:
    return report.ok and bool(report.task_runs)


def _environment(given: Environment | str | None, name: str | None) -> Environment:
    if given is not None:
        return environment_for(given)
    last = session.current() if name is None else None
    record = registry.read(config.cluster_name(name) if last is None else last.name)
    # Of an existing scheduler nobody can change the size: a Gateway of its kind of worker is taken.
    if record is None or isinstance(record.environment, RemoteDaskEnvironment):
        return environment_for(None)
    return record.environment


def _recorded_on(report: FlowRunReport) -> Environment | None:
    # An address is what a cluster without a name of ours goes by.
    if not report.cluster or ":" in report.cluster:
        return None
    record = registry.read(report.cluster)
    return None if record is None else record.environment


def _startup(
    runs: Sequence[FlowRunReport], environment: Environment, recorded_on: Environment | None
) -> float:
    observed = [worker.startup for run in runs for worker in run.workers if worker.startup]
    if observed and type(recorded_on) is type(environment):
        return sorted(observed)[len(observed) // 2]
    kind = "cloud" if isinstance(environment, DaskCloudProviderEnvironment) else "gateway"
    return config.seconds(f"tune.startup.{kind}")


def _interval(environment: Environment, fresh: bool) -> float:
    """Give the seconds between two looks at an adaptive cluster's load."""
    if isinstance(environment, DaskCloudProviderEnvironment):
        return 1.0 if fresh else config.seconds("fargate.adaptive-interval")
    return GATEWAY_INTERVAL


def _region() -> str:
    table = config.get("prices.fargate.regions") or {}
    return next(iter(table), "us-east-1")
