"""Flows that do, between them, all that a task run can do; some of it in batches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import cloudpickle
from prefect import allow_failure, artifacts, flow, get_run_logger, runtime, tags, task, unmapped
from prefect.assets import Asset, add_asset_metadata, materialize
from prefect.cache_policies import INPUTS
from prefect.concurrency.sync import concurrency
from prefect.context import get_run_context
from prefect.events import emit_event
from prefect.exceptions import CancelledRun
from prefect.futures import wait
from prefect.states import Cancelled, Completed, Failed
from prefect.transactions import transaction
from prefect.utilities.annotations import opaque, quote

import daskenv_lab

LIMITED, SLOTS, STORAGE = "same-limited", "same-slots", "local-file-system/same-records"
"""What the API must have: a limit for a tag, a limit for slots, and a block."""

RAW, CLEAN = Asset(key="s3://same/raw"), Asset(key="s3://same/clean")


def told(name: str) -> Any:
    """Give a hook that logs its name and what it was called with."""

    def hook(task: Any, run: Any, state: Any) -> None:
        get_run_logger().info("%s of %s in %s", name, task.name, state.name)

    hook.__name__ = name
    return hook


def tried() -> int:
    """Count the tries of the current task run, with this one."""
    context: Any = get_run_context()
    return int(context.task_run.run_count)


@task(task_run_name="double {x}")
def double(x: Any) -> int:
    """Double a number."""
    return 2 * x


@task(task_run_name=lambda parameters: f"scaled {parameters['x']}", version="7")
def scale(x: int, by: Any) -> int:
    """Multiply, under a name that a function gives."""
    return x * by


@task
def numbers(n: int) -> Any:
    """List some numbers from 1,000 up, which Prefect follows by their identity."""
    return [1000 + i for i in range(n)]


@task
def tell(x: Any, y: Any = None) -> str:
    """Tell both arguments."""
    return repr((x, y))


@task
def gather(first: Any, *more: Any, **named: Any) -> str:
    """Tell all arguments."""
    return repr((first, more, named))


@task(on_running=[told("starts")], on_failure=[told("fails")])
def breaks(message: str) -> None:
    """Raise an exception."""
    raise ValueError(message)


@task(retries=2, on_running=[told("starts")], on_completion=[told("completes")])
def flaky() -> int:
    """Complete at the third try."""
    if tried() < 3:
        raise OSError("not yet")
    return tried()


@task(retries=1, retry_delay_seconds=0.3)
def patient() -> int:
    """Complete at the second try, after a pause."""
    if tried() < 2:
        raise OSError("not yet")
    return tried()


@task(retries=1, retry_delay_seconds=[0.1])
def exhausted() -> None:
    """Fail at each try."""
    raise OSError("never")


@task(retries=3, retry_condition_fn=lambda task, run, state: False)
def hopeless() -> None:
    """Fail, and not be tried again."""
    raise ValueError("no use")


@task(cache_policy=INPUTS, cache_expiration=timedelta(hours=1))
def remembered(x: int, salt: str) -> int:
    """Keep the result by its arguments."""
    return x


@task(cache_key_fn=lambda context, parameters: f"key of {parameters['salt']}")
def keyed(x: int, salt: str) -> int:
    """Keep the result by a key of its own."""
    return x


@task(
    persist_result=True,
    result_storage=STORAGE,
    result_storage_key="kept-{parameters[salt]}-{parameters[x]}.json",
    result_serializer="json",
)
def kept(x: int, salt: str) -> dict[str, int]:
    """Keep the result where a block says."""
    return {"x": x}


@task(persist_result=True)
def broken_and_kept(salt: str) -> None:
    """Keep an exception."""
    raise LookupError(f"no {salt}")


@task(timeout_seconds=0.3)
def slow() -> None:
    """Take longer than it may."""
    for _ in range(40):
        time.sleep(0.05)


@task(log_prints=False)
def quiet() -> None:
    """Print what nobody hears, and log with several levels."""
    print("nobody hears")
    get_run_logger().debug("too low")
    get_run_logger().info("with %s", "arguments", extra={"more": 1})


@task(tags=["told", LIMITED])
def leaves_traces(salt: str) -> None:
    """Print what Prefect's runtime says, emit an event, create artifacts, and hold slots."""
    print(runtime.task_run.task_name, runtime.task_run.parameters, runtime.task_run.run_count)
    print(sorted(runtime.task_run.tags or []), runtime.flow_run.name, runtime.flow_run.tags)
    print(runtime.flow_run.parameters, runtime.flow_run.run_count, runtime.flow_run.flow_name)
    emit_event("same.thing", {"prefect.resource.id": "same.thing"}, payload={"n": 1})
    artifacts.create_markdown_artifact("# one", key=f"{salt}-markdown", description="first")
    artifacts.create_table_artifact([{"a": 1}], key=f"{salt}-table")
    artifacts.create_link_artifact("https://example.org", key=f"{salt}-link")
    progress: Any = artifacts.create_progress_artifact(10.0, key=f"{salt}-progress")
    artifacts.update_progress_artifact(progress, 90.0)
    with concurrency(SLOTS, occupy=1):
        pass


@materialize(RAW, by="a tool", tags=["made"])
def extract() -> int:
    """Make an asset."""
    add_asset_metadata(RAW, {"rows": 3})
    return 3


@materialize(CLEAN, asset_deps=["s3://same/elsewhere"])
def load(rows: Any) -> int:
    """Make an asset out of another."""
    return rows


@materialize("s3://same/never")
def spoil() -> None:
    """Fail to make an asset."""
    raise ValueError("spoilt")


@task
def states(name: str) -> Any:
    """Return a state of its own making."""
    if name == "raised":
        raise CancelledRun("by hand")
    if name == "special":
        return Completed(name="Special", message="by hand", data=5)
    return Failed(message="by hand") if name == "failed" else Cancelled(message="by hand")


@task
def parent(x: int) -> int:
    """Call tasks in a task in each way."""
    called = double(x + 1)
    with tags("inner"):
        sent = double.submit(x + 2)
    mapped = double.map([x + 3], wait_for=[sent])
    get_run_logger().info("called %s", called)
    return called + sum(mapped.result()) + scale.submit(x, by=sent).result()


@task
def counts(n: int) -> Iterator[int]:
    """Yield some numbers."""
    yield from range(1000, 1000 + n)


@task
def consumes() -> int:
    """Go through a task that yields, within a task."""
    return sum(double(x) for x in counts(1))


@task
def undone() -> None:
    """Be rolled back."""


@undone.on_rollback
def undo(transaction: Any) -> None:
    """Say that it was rolled back."""
    print("undoing")


@task
def rolls_back() -> str:
    """Fail in a transaction."""
    try:
        with transaction():
            undone()
            raise ValueError
    except ValueError:
        return "undone"


@flow(flow_run_name="inner {x}")
def inner(x: Any) -> int:
    """Run a task in a flow of its own."""
    return double.submit(x).result()


@task
def runs_flow(x: int) -> int:
    """Run a flow within a task."""
    return inner(x)


@flow(flow_run_name="inputs", log_prints=True)
def inputs(salt: str) -> list[str]:
    """Hand results, futures and states to tasks in each way."""
    rows = numbers(2)
    first = double.submit(1)
    mapped = double.map([10, 20])
    listed = numbers.submit(2)
    state = double.submit(4, return_state=True)
    nested = {"deep": [first, {"more": mapped[0]}]}
    with tags("around", "twice"):
        tagged = gather.submit(nested, [mapped, 3], wait_for=[listed])
    futures: list[Any] = [
        tagged,
        gather.with_options(name="by identity").submit(rows, state, n=rows[0], pair=(first, 1)),
        *daskenv_lab.map(double, listed, batch=2),
        *scale.map([1, 2], by=unmapped(first), wait_for=mapped),
    ]
    own = get_run_context().task_runner.duplicate()  # type: ignore[union-attr]
    # Prefect takes an input whose task run goes on for the parent.
    first.wait()
    with_runner = inner.with_options(task_runner=own, flow_run_name="sub {x}")
    inside = with_runner(first, return_state=True)
    futures += [
        double.with_options(task_run_name="after a flow").submit(inside),
        parent.submit(500),
        runs_flow.submit(600),
        consumes.submit(),
    ]
    wait(futures)
    return [repr(future.result()) for future in futures]


@flow(flow_run_name="outcomes", log_prints=True)
def outcomes(salt: str) -> list[str]:
    """End task runs in each way."""
    broken = breaks.submit("as asked")
    futures: list[Any] = [
        broken,
        double.with_options(name="unready").submit(broken),
        double.with_options(name="unready too").submit(7, wait_for=[broken]),
        flaky.submit(),
        patient.submit(),
        exhausted.submit(),
        hopeless.submit(),
        slow.submit(),
        kept.submit(1, salt),
        broken_and_kept.submit(salt),
        rolls_back.submit(),
        quiet.submit(),
        leaves_traces.submit(salt),
        load.submit(extract.submit()),
        spoil.submit(),
        *daskenv_lab.map(states, ["special", "failed", "cancelled", "raised"], batch=3),
    ]
    for again in range(3):
        stored = remembered.with_options(refresh_cache=again == 2, name=f"remembered {again}")
        futures.append(stored.submit(1, salt))
        futures[-1].wait()
    for again in range(2):
        futures.append(keyed.with_options(name=f"keyed {again}").submit(again, salt))
        futures[-1].wait()
    wait(futures)
    return [f"{future.state.name} {future.state.message}" for future in futures]


@flow(flow_run_name="annotated")
def annotated(salt: str) -> list[str]:
    """Hand on arguments with annotations."""
    broken = breaks.submit("excused")
    listed = numbers.submit(2)
    futures: list[Any] = [
        tell.with_options(name="excused").submit(allow_failure(broken)),
        *tell.with_options(name="each excused").map([1], allow_failure(broken)),
        tell.with_options(name="quoted").submit(quote({"left": [1]}), opaque(listed)),
        *tell.with_options(name="each quoted").map(quote([[1]]), unmapped(quote("ab"))),
    ]
    wait(futures)
    return [repr(future.result()) for future in futures]


@task
def fails_first() -> int:
    """Fail in the first try of its flow."""
    if runtime.flow_run.run_count == 1:
        raise ValueError("in the first try")
    return 1


@flow(flow_run_name="second try", retries=1)
def second_try(salt: str) -> Any:
    """Fail twice: by an exception, and by a future that failed."""
    futures: list[Any] = [double.submit(1), fails_first.submit(), breaks.submit("twice")]
    wait(futures)
    futures[1].result()
    return futures


cloudpickle.register_pickle_by_value(sys.modules[__name__])
