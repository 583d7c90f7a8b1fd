"""What is known about a flow run after it ended."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime  # noqa: TC003 - pydantic looks it up
from typing import TYPE_CHECKING, Any, ClassVar

from daskenv_lab.errors import FlowRunFailed, ReportError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_VERSION = 2

READ = (1, SCHEMA_VERSION)
"""The versions that can be read; what the first lacks has its default."""

_CHECKED = {"allow_inf_nan": False, "arbitrary_types_allowed": True}
"""How pydantic checks what was written down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRunReport:
    """One task run of a flow run."""

    __pydantic_config__: ClassVar = _CHECKED

    id: str
    """Prefect's id of the task run."""

    name: str
    """Prefect's name of the task run, such as ``add-3f1``."""

    task: str
    """The task's own name, such as ``add``."""

    state: str
    """The name of its last state: Completed, Failed, Crashed, Cancelled, Cached, …"""

    start: datetime | None
    """When it began on a worker, in UTC; None if it never did."""

    duration: float | None
    """Seconds on the worker, retries and waiting for dependencies' results included."""

    worker: str | None
    """The address of the worker that ran it."""

    submitted: float | None = None
    """Seconds from the flow run's start until the call was sent; None if a task sent it."""

    needs: tuple[int, ...] = ()
    """The task runs whose results it takes or waits for, by their places in `task_runs`."""

    batch: int | None = None
    """The place of the first task run that is in the same Dask task; None if it has its own."""

    compute: float | None = None
    """Seconds for which its Dask task held a thread; of a batch, all together, with the first."""

    transfer: float | None = None
    """Seconds that its Dask task took to fetch results from other workers."""

    input_bytes: int | None = None
    """Bytes of the results that its Dask task takes, wherever they were."""

    output_bytes: int | None = None
    """Bytes that its Dask task's result takes on the cluster."""

    cpu: float | None = None
    """Cores that it kept busy on average while it ran: 0 waits, 1 computes in one thread."""

    memory: int | None = None
    """Bytes by which its worker's process grew at most while it ran; Linux tells them."""

    released: float | None = None
    """Seconds from the flow run's start until the cluster let go of the result, if it did."""

    attempts: int = 1
    """How often a worker began it: more than once if workers were lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientWait:
    """A time for which the flow's own code waited for task runs."""

    __pydantic_config__: ClassVar = _CHECKED

    began: float
    """Seconds from the flow run's start."""

    ended: float
    task_runs: tuple[int, ...]
    """What it waited for, by their places in `FlowRunReport.task_runs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """One worker that was there during a flow run."""

    __pydantic_config__: ClassVar = _CHECKED

    address: str
    nthreads: int
    memory_limit: int
    """Bytes; 0 means no limit."""

    joined: float
    """Seconds from the flow run's start; 0 if it was there before."""

    left: float | None = None
    """Seconds from the flow run's start; None if it stayed."""

    lost: bool = False
    """Whether it left with tasks that had to run again elsewhere."""

    startup: float | None = None
    """Seconds from when it was asked for until it joined, where that was during the flow run."""

    memory: int = 0
    """Bytes of its process when the flow run began, or when it joined."""

    spilled: int = 0
    """The most bytes that it had moved from memory to disk."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FlowRunReport:
    """One flow run: its outcome, its task runs and what they used.

    Examples
    --------
    >>> report = daskenv_lab.run(add_up, x=[1, 2, 3])  # doctest: +SKIP
    >>> report.result  # doctest: +SKIP
    12
    """

    __pydantic_config__: ClassVar = _CHECKED

    flow: str
    flow_run_id: str
    flow_run_name: str
    state: str
    """The name of the flow run's last state."""

    cluster: str | None
    """The name of the cluster, or its scheduler's address."""

    start: datetime
    """When the run was asked for, in UTC."""

    duration: float
    """Seconds from then to the last task run's end."""

    value: Any = field(default=None, compare=False)
    """What the flow returned; None if it failed."""

    error: BaseException | None = field(default=None, compare=False)
    """What the flow raised; None if it completed."""

    task_runs: tuple[TaskRunReport, ...] = ()
    bytes_moved: int = 0
    """Bytes that workers sent, to each other and to the client, while the flow ran."""

    peak_memory: Mapping[str, int] = field(default_factory=dict)
    """The most bytes that each worker's process held, by address, as its heartbeats told."""

    cluster_size: tuple[tuple[float, int], ...] = ()
    """Number of workers over time: (seconds since `start`, workers), a pair at each change."""

    waits: tuple[ClientWait, ...] = ()
    """When the flow's own code waited, and for what, in order."""

    workers: tuple[WorkerReport, ...] = ()
    """The workers that were there at the start or came."""

    bandwidth: float | None = None
    """Bytes a second between workers, as the scheduler measured."""

    measures: Mapping[str, float] = field(default_factory=dict)
    """The flow's parameters as numbers: ``{"rate": 0.5, "len(x)": 3.0}``."""

    ticks: bool = False
    """Whether it could end at whole seconds of its own only: Prefect waits for the thread that
    tells of a synchronous flow's heartbeat, which looks up once a second."""

    url: str | None = None
    """The flow run's page in the Prefect API's user interface."""

    @property
    def ok(self) -> bool:
        """Whether the flow run completed."""
        return self.error is None and self.state in ("Completed", "Cached")

    @property
    def result(self) -> Any:
        """What the flow returned.

        Raises
        ------
        FlowRunFailed
            It did not complete; chained to what the flow raised.
        """
        if not self.ok:
            told = str(self.error)
            told = told if len(told) <= 600 else f"{told[:600]}…"
            what = "" if self.error is None else f": {type(self.error).__name__}: {told}"
            raise FlowRunFailed(
                f"the flow run {self.flow_run_name!r} of {self.flow!r} ended {self.state}{what}; "
                "its task runs are in `.task_runs`"
            ) from self.error
        return self.value

    @property
    def states(self) -> dict[str, int]:
        """Number of task runs by state."""
        return dict(Counter(t.state for t in self.task_runs))

    def to_dict(self) -> dict[str, Any]:
        """Write everything down in JSON's types; the value and the error as text."""
        written = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("value", "error", "task_runs", "start", "waits", "workers")
        }
        return {
            **written,
            "schema": SCHEMA_VERSION,
            "start": self.start.isoformat(),
            "ok": self.ok,
            "result": _jsonable(self.value),
            "error": None if self.error is None else f"{type(self.error).__name__}: {self.error}",
            "peak_memory": dict(self.peak_memory),
            "cluster_size": [list(pair) for pair in self.cluster_size],
            "measures": dict(self.measures),
            "waits": [[w.began, w.ended, list(w.task_runs)] for w in self.waits],
            "workers": [asdict(w) for w in self.workers],
            "task_runs": [
                {**asdict(t), "start": t.start.isoformat() if t.start else None}
                for t in self.task_runs
            ],
        }

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> FlowRunReport:
        """Make the report that `to_dict` wrote down; the value and the error are what it had left.

        Raises
        ------
        ReportError
            Something is missing or not what it should be, or it comes from another version.
        """
        schema = written.get("schema") if isinstance(written, Mapping) else None
        if schema not in READ:
            raise ReportError(
                f"the report has the schema {schema!r}, and this version reads {SCHEMA_VERSION}; "
                "update daskenv_lab, or run the flow again"
            )
        told = {name: written[name] for name in cls.__dataclass_fields__ if name in written}
        try:
            report = _adapter().validate_python(
                {
                    **told,
                    "value": written["result"],
                    "error": None if written["error"] is None else FlowRunFailed(written["error"]),
                    "waits": [
                        {"began": began, "ended": ended, "task_runs": places}
                        for began, ended, places in written.get("waits", ())
                    ],
                }
            )
            for wrong in _faults(report):
                raise ValueError(wrong)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReportError(
                f"the report is damaged ({type(error).__name__}: {_first(error)}); "
                "run the flow again"
            ) from error
        return report

    def __repr__(self) -> str:
        states = ", ".join(f"{n} {state}" for state, n in sorted(self.states.items()))
        return (
            f"FlowRunReport({self.flow!r}, {self.state}, {self.duration:.2f} s, "
            f"task runs: {states or 'none'})"
        )


@functools.cache
def _adapter() -> TypeAdapter[FlowRunReport]:
    from pydantic import TypeAdapter

    return TypeAdapter(FlowRunReport)


def _faults(report: FlowRunReport) -> Iterator[str]:
    """Name what each part allows by itself, and the report as a whole does not."""
    runs = report.task_runs
    places: list[Iterable[int]] = [wait.task_runs for wait in report.waits]
    places += [run.needs for run in runs]
    places += [(run.batch,) for run in runs if run.batch is not None]
    for told in places:
        if not all(0 <= place < len(runs) for place in told):
            yield f"a place in {tuple(told)} is none of {len(runs)} task runs'"
    for start in (report.start, *(run.start for run in runs)):
        if start is not None and start.tzinfo is None:
            yield f"the time {start} has no zone"


def _first(error: Exception) -> str:
    """Tell of many faults the first, in a line."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    return repr(value)
