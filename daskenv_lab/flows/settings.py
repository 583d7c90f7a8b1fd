"""The settings of flow runs in the kernel, which workers get too.

Prefect writes them down for whoever asks, and takes 70 ms for it: longer than a flow run of a few
small tasks should be made to wait.
"""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any

from prefect.context import SettingsContext
from pydantic import PrivateAttr

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 4
"""Settings whose flow runs have been prepared for, and are remembered."""

_prepared: list[tuple[SettingsContext, _WrittenOnce]] = []


class _WrittenOnce(SettingsContext):
    """Settings that are written down once, however many copies of this write them."""

    _written: dict[bool, dict[str, Any]] = PrivateAttr(default_factory=dict)

    def serialize(self, include_secrets: bool = True) -> dict[str, Any]:
        if include_secrets not in self._written:
            self._written[include_secrets] = super().serialize(include_secrets=include_secrets)
        return copy.deepcopy(self._written[include_secrets])


@contextlib.contextmanager
def settings_of_flow_run() -> Iterator[None]:
    """Let flow runs that begin meanwhile have settings that are written down only once.

    They send no heartbeats, unless Prefect was told how often: it joins the thread that sends
    them, which sleeps a second at a time, so that a flow run's end waits for it. Its engine looks
    at the setting when it has entered the task runner.
    """
    current = SettingsContext.get()
    if current is None:
        yield
        return
    known = next((ours for theirs, ours in list(_prepared) if theirs is current), None)
    if known is None:
        known = _quiet(current)
        _prepared.append((current, known))
        del _prepared[:-KEPT]
    with known.model_copy():
        yield


def _quiet(current: SettingsContext) -> _WrittenOnce:
    settings, flows = current.settings, current.settings.flows
    if "heartbeat_frequency" not in flows.model_fields_set:
        silent = flows.model_copy(update={"heartbeat_frequency": None})
        settings = settings.model_copy(update={"flows": silent})
    return _WrittenOnce(profile=current.profile, settings=settings)
