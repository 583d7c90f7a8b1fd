"""Fetching the outcomes of many task runs together, and the list of futures that does so.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
from prefect.futures import PrefectFutureList

from daskenv_lab.flows.future import DaskFuture
from daskenv_lab.flows.slot import out_of_the_slot

if TYPE_CHECKING:
    from collections.abc import Iterable

    import distributed

GATHER = 0.25
"""Seconds between two looks for results that can be fetched together, at least."""

LONGEST_GATHER = 1.0
"""The same at most: the longer it takes anyway, the fewer requests there need be."""


class DaskFutureList(PrefectFutureList[Any]):
    """The futures of a mapped task, whose results are fetched together."""

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:
        """Give the results in order; what has ended is fetched in one go.

        Raises
        ------
        TimeoutError
            Not all ended within `timeout` seconds.
        BaseException
            What the first task run raised that is found to have failed, while others go on.
        """
        if timeout is not None and timeout < 0:
            raise ValueError(f"'timeout' must be a non-negative number, got {timeout}")
        if not all(isinstance(future, DaskFuture) for future in self):
            return super().result(timeout, raise_on_failure)
        deadline = None if timeout is None else time.monotonic() + timeout
        left = dict.fromkeys(cast("list[DaskFuture]", self))
        ids = [future.task_run_id for future in left]
        began = time.monotonic()
        noted = next(iter(left))._ended.noted(ids) if left else contextlib.nullcontext()
        with noted, out_of_the_slot():
            while left:
                patience = min(max((time.monotonic() - began) / 8, GATHER), LONGEST_GATHER)
                for future in _ended_of(left, patience, deadline):
                    del left[future]
                    if raise_on_failure:
                        future.result()
                if left and deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(
                        f"Timed out waiting for all futures to complete within {timeout} seconds"
                    )
        return [future.result(raise_on_failure=raise_on_failure) for future in self]


def _ended_of(
    futures: Iterable[DaskFuture], patience: float, deadline: float | None
) -> list[DaskFuture]:
    """Wait a moment for futures to end, and fetch the outcomes of those that have."""
    waiting = [future for future in futures if not future.done]
    moment = time.monotonic() + patience
    until = moment if deadline is None else min(moment, deadline)
    for future in waiting:
        future.wait(max(until - time.monotonic(), 0))
        if time.monotonic() >= until:
            break
    ended = [future for future in futures if future.done]
    fetch(ended)
    return ended


def fetch(futures: Iterable[DaskFuture]) -> None:
    """Fetch the outcomes of task runs that have ended, as many as there are in one go."""
    wanted: dict[distributed.Future, list[DaskFuture]] = {}
    for future in futures:
        if future._outcome is None and future.wrapped_future.status == "finished":
            wanted.setdefault(future.wrapped_future, []).append(future)
    if not wanted:
        return
    client = next(iter(wanted)).client
    # One that is lost is settled by itself, with its reason.
    with contextlib.suppress(Exception):
        for fetched, outcomes in zip(wanted, client.gather(list(wanted)), strict=True):
            for future in wanted[fetched]:
                future.accept(outcomes)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
