"""Clusters and flow runs as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask.utils import format_bytes, format_time

from daskenv_lab.packages.report import counted
from daskenv_lab.phrases import many

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from daskenv_lab.cluster import ClusterInfo, WorkerInfo
    from daskenv_lab.packages.report import Held, PackageReport
    from daskenv_lab.providers.fargate.doctor import Finding
    from daskenv_lab.providers.fargate.resource import Resource
    from daskenv_lab.rehearsal import Rehearsal
    from daskenv_lab.report import FlowRunReport


def columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay rows out in columns.

    Examples
    --------
    >>> print(columns(("name", "workers"), [("dev", 2)]))
    name  workers
    dev   2
    """
    lines = [tuple(head), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def status(info: ClusterInfo) -> str:
    """Tell how one cluster is, in a few lines."""
    if info.adaptive:
        low, high = info.adaptive
        size = f"adaptive, {low} to {'any number of' if high is None else high} workers"
        size += f", by {info.adaptive_holder}" if info.adaptive_holder else ""
    else:
        size = (
            "not set" if info.requested is None else f"{many(info.requested, 'worker')} asked for"
        )
    states = ", ".join(f"{n} {state}" for state, n in sorted(info.tasks.items()) if n)
    facts = [
        ("workers", f"{info.n_workers} with {many(info.nthreads, 'thread')}"),
        ("size", size),
        ("tasks", states or "none"),
        ("clients", info.clients),
        ("idle", format_time(info.idle) if info.idle else "no"),
        *_ending(info),
        ("scheduler", info.scheduler_address or "unknown"),
        ("dashboard", info.dashboard_link or "none"),
    ]
    up = f", up {format_time(info.uptime)}" if info.uptime is not None else ""
    lines = [f"{_called(info)}: {info.status}{up}"]
    lines += [f"  {fact:<10} {value}" for fact, value in facts]
    if info.workers:
        head = ("worker", "threads", "memory", "CPU", "tasks", "address")
        table = columns(
            head,
            [
                (
                    w.name,
                    w.nthreads,
                    _memory(w),
                    f"{w.cpu:.0f} %",
                    w.tasks,
                    w.address,
                )
                for w in info.workers
            ],
        )
        lines += ["", table]
    return "\n".join(lines)


def listing(infos: Sequence[ClusterInfo]) -> str:
    """List clusters, one to a line."""
    if not infos:
        return "no clusters; start one with `daskenv up`"
    head = ("name", "status", "workers", "up", "idle", "held", "provider", "owner")
    held = {True: "yes", False: "no", None: "?"}
    return columns(
        head,
        [
            (
                _called(info),
                info.status,
                info.n_workers if info.status == "running" else "-",
                "-" if info.uptime is None else format_time(info.uptime),
                format_time(info.idle) if info.idle else "-",
                held[info.held],
                info.ref.provider,
                info.owner or "-",
            )
            for info in infos
        ],
    )


def outcome(report: FlowRunReport) -> str:
    """Tell what came of a flow run, in one line."""
    if report.error is not None:
        return f"Error: {type(report.error).__name__}: {report.error}"
    return f"Result: {report.value!r}" if report.ok else f"Ended {report.state}"


def summary(report: FlowRunReport) -> str:
    """Tell how a flow run went."""
    states = ", ".join(f"{n} {state}" for state, n in sorted(report.states.items()))
    return (
        f"{report.flow} ({report.flow_run_name}): {report.state} in {report.duration:.2f} s on "
        f"{report.cluster or 'its cluster'}; task runs: {states or 'none'}\n{outcome(report)}"
    )


def resources(parts: Iterable[Resource]) -> str:
    """List the parts of the set that all clusters in an AWS account share."""
    head = ("kind", "name", "state", "note", "identifier")
    rows = [(p.kind, p.name, p.state, p.note or "-", p.identifier or "-") for p in parts]
    return columns(head, rows)


def findings(found: Iterable[Finding]) -> str:
    """Tell what was checked, the result, and below it what to do."""
    found = tuple(found)
    table = columns(("result", "checked", "found"), [(f.result, f.what, f.told) for f in found])
    head, *lines = table.splitlines()
    told = [head]
    for line, finding, following in zip(lines, found, (*found[1:], None), strict=True):
        told.append(line)
        # What mends several things in a row is said once, below them.
        if finding.step and (following is None or following.step != finding.step):
            told.append(f"  -> {finding.step}")
    return "\n".join(told)


def packages(report: PackageReport, *, only_troubles: bool = False) -> str:
    """Set what is installed here beside what the scheduler and the workers have.

    Workers that hold the same share a column; what matters is marked in the last one.
    """
    why: dict[str, str] = {}
    for trouble in report.troubles:
        why.setdefault(trouble.package, f"{trouble.weight}: {trouble.why}")
    own = [n.name for n in report.needs if n.name not in report.here.versions or n.version]
    names = dict.fromkeys(["python", *own, *report.here.versions])
    sides = [report.here, report.scheduler, *(g.held for g in report.groups)]
    head = ["package", "here", "scheduler", *(counted(g.workers) for g in report.groups), "note"]
    rows = [
        [name, *(_version(side, name, report) for side in sides), why.get(name, "")]
        for name in names
        if not only_troubles or name in why
    ]
    return columns(head, rows)


def _version(side: Held, name: str, report: PackageReport) -> str:
    """Say which version one side has, and whether it was installed while it ran."""
    if name == "python":
        return side.python
    if (version := side.versions.get(name)) is not None:
        return f"{version} (added)" if name in side.installed else version
    if name in side.versions:
        modules = {n.module for n in report.needs if n.name == name}
        return "-" if not modules or modules & side.absent else "?"
    # A scheduler is not asked what flows import, nor are workers of another Python.
    return ""


def way_in(here: Rehearsal) -> str:
    """Tell where the rehearsal is, and how the AWS command line looks at it."""
    variables = {
        "AWS_ENDPOINT_URL": here.endpoint,
        "AWS_DEFAULT_REGION": here.region,
        "AWS_ACCESS_KEY_ID": here.key_id,
        "AWS_SECRET_ACCESS_KEY": here.secret,
    }
    line = " ".join(f"{name}={value}" for name, value in variables.items())
    return (
        f"The rehearsal runs at {here.endpoint} in {here.region}, as process {here.pid}; look with "
        f"the AWS command line:\n{line} aws ecs list-clusters"
    )


def _ending(info: ClusterInfo) -> list[tuple[str, str]]:
    """Tell when a cluster ends by itself, if that is known."""
    if info.stops_in is None:
        return []
    return [("stops in", f"{format_time(info.stops_in)}, if nobody uses it")]


def _memory(worker: WorkerInfo) -> str:
    limit = format_bytes(worker.memory_limit) if worker.memory_limit else "no limit"
    return f"{format_bytes(worker.memory)} of {limit}"


def _called(info: ClusterInfo) -> str:
    return info.name or f"({info.ref.id})"
