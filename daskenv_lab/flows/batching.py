"""`map` with a batch size, for very small tasks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import FlowError
from daskenv_lab.flows.prefect3 import current_runner

if TYPE_CHECKING:
    from prefect import Task
    from prefect.futures import PrefectFutureList


def map(  # noqa: A001 - as `task.map`, whose place it takes
    task: Task[..., Any], /, *args: Any, batch: int = 1, **kwargs: Any
) -> PrefectFutureList[Any]:
    """Map a task as ``task.map`` does, with several of its calls in one Dask task.

    Each call is a task run of its own at the Prefect API, with its own retries, state and result.
    The calls of a batch run one after another on one worker, and their results become available
    together; all of them run again if that worker dies. It pays for tasks that take less than
    some 20 ms. On other task runners than DaskExecutor it is ``task.map``.

    Parameters
    ----------
    task : prefect.Task
        The task.
    *args, **kwargs
        What ``task.map`` takes; a parameter of the task's that is named ``batch`` by place.
    batch : int
        How many calls go into one Dask task.

    Raises
    ------
    FlowError
        `batch` is no whole number above 0.

    Examples
    --------
    >>> daskenv_lab.map(add_one, range(1000), batch=25).result()  # doctest: +SKIP
    [1, 2, 3, ...]
    """
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise FlowError(
            f"batch is {batch!r}; give how many calls go into one Dask task, such as 25"
        )
    batched = getattr(current_runner(), "batched", None)
    with contextlib.nullcontext() if batched is None else batched(batch):
        return task.map(*args, **kwargs)
