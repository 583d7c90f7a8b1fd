"""Sizes of the two kinds: a fixed number of workers, or bounds for adaptive scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

FIXED = ("n_workers",)
BOUNDS = ("adaptive_min_workers", "adaptive_max_workers")


def replaced_by(sizes: Mapping[str, Any]) -> dict[str, None]:
    """Say what has to go when these sizes come: those of the other kind.

    Examples
    --------
    >>> replaced_by({"adaptive_max_workers": 3, "worker_cpu": 1024})
    {'n_workers': None}
    """
    fixed, bounds = (any(sizes.get(k) is not None for k in kind) for kind in (FIXED, BOUNDS))
    if fixed == bounds:
        return {}
    return dict.fromkeys(BOUNDS if fixed else FIXED)
