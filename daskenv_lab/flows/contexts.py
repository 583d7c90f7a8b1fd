"""Prefect's contexts on a worker: opened once, not for each task run.

Like `prefect3` it uses what Prefect does not promise; `tests/flows/test_contexts.py` says what.
The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any

import cloudpickle
from prefect.context import SettingsContext, SyncClientContext, hydrated_context

from daskenv_lab.flows.names import versioned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SURROUNDINGS = versioned("daskenv_surroundings")
"""The attribute of a Dask worker under which it keeps what rooms have in common."""

KEPT = 4
"""Settings that a worker keeps open, with an HTTP client each."""


class Surroundings:
    """Settings and an HTTP client on a worker, for all flow runs that have the same settings.

    To open them takes longer than the first tasks of a flow run. They close once no context is
    left that was opened in them.

    Parameters
    ----------
    written : mapping
        The settings, as Prefect writes them.
    """

    def __init__(self, written: Mapping[str, Any]) -> None:
        self._made_of = _made_of(written)
        # Empty, so that nothing of the call that comes first is kept for those after it.
        context = contextvars.Context()
        stack = contextlib.ExitStack()
        try:
            context.run(self._open, stack, written)
        except BaseException:
            context.run(stack.close)
            raise
        self._variables = list(context.items())
        weakref.finalize(self, context.run, stack.close).atexit = False

    def enter(self) -> None:
        """Let the caller's context have them."""
        for variable, value in self._variables:
            variable.set(value)

    def made_of(self, written: Mapping[str, Any]) -> bool:
        """Tell whether they would be the same if they were made of these settings now."""
        return self._made_of == _made_of(written)

    @staticmethod
    def _open(stack: contextlib.ExitStack, written: Mapping[str, Any]) -> None:
        stack.enter_context(SettingsContext(**written))
        stack.enter_context(SyncClientContext())


def _made_of(written: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, str]]:
    # What was not written is read from the worker's environment.
    return written, {name: os.environ[name] for name in os.environ if name.startswith("PREFECT_")}


class OpenContext:
    """A flow run's context on a worker: opened once, entered by each task run, closed once.

    Prefect opens it for each task run, of which 85 ms go into its settings and HTTP client.

    Parameters
    ----------
    surroundings : Surroundings
        In which it is opened.
    written : mapping
        The context, as Prefect writes it.
    """

    def __init__(self, surroundings: Surroundings, written: Mapping[str, Any]) -> None:
        self._surroundings = surroundings
        self._context = contextvars.copy_context()
        self._stack = contextlib.ExitStack()
        try:
            self._context.run(self._open, {**written, "settings_context": {}})
        except BaseException:
            self.close()
            raise

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in a copy of the context."""
        # Not in the caller's: Dask starts a task in that of whoever gave its loop work, such as
        # another task run.
        return self._context.copy().run(function, *args)

    def close(self) -> None:
        """Close what the context holds open."""
        self._context.run(self._stack.close)

    def _open(self, written: dict[str, Any]) -> None:
        self._surroundings.enter()
        around = SyncClientContext.get()
        client = around.client if around else None
        self._stack.enter_context(hydrated_context(written, client=client))


def surroundings_on(worker: Any, settings: Mapping[str, Any]) -> Surroundings:
    """Give the settings and the HTTP client that rooms with such settings share on a worker."""
    kept: list[Surroundings] = worker.__dict__.setdefault(SURROUNDINGS, [])
    found = next((one for one in list(kept) if one.made_of(settings)), None)
    if found is None:
        found = Surroundings(settings)
        kept.append(found)
        del kept[:-KEPT]
    return found


cloudpickle.register_pickle_by_value(sys.modules[__name__])
