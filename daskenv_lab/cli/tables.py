"""Clusters and flow runs as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask.utils import format_bytes, format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from daskenv_lab.cluster import ClusterInfo, WorkerInfo
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
    else:
        size = (
            "not set" if info.requested is None else f"{_many(info.requested, 'worker')} asked for"
        )
    states = ", ".join(f"{n} {state}" for state, n in sorted(info.tasks.items()) if n)
    facts = [
        ("workers", f"{info.n_workers} with {_many(info.nthreads, 'thread')}"),
        ("size", size),
        ("tasks", states or "none"),
        ("clients", info.clients),
        ("idle", format_time(info.idle) if info.idle else "no"),
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


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _memory(worker: WorkerInfo) -> str:
    limit = format_bytes(worker.memory_limit) if worker.memory_limit else "no limit"
    return f"{format_bytes(worker.memory)} of {limit}"


def _called(info: ClusterInfo) -> str:
    return info.name or f"({info.ref.id})"
