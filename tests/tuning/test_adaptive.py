"""How many workers Dask would ask for."""

from __future__ import annotations

from dataclasses import replace

from daskenv_lab.tuning import Size
from daskenv_lab.tuning.adaptive import PATIENCE, Adaptive, Load

BUSY = Load(workers=2, coming=0, queued=18, processing=2, occupancy=50.0, idle=0)


def test_what_is_to_be_done_in_five_seconds() -> None:
    """As many as would do it, and what is on its way counts."""
    adaptive = Adaptive(Size(n_workers=1, maximum=100))
    assert adaptive.change(BUSY) == 8
    assert adaptive.change(replace(BUSY, coming=8)) == 0
    assert Adaptive(Size(n_workers=1, maximum=100, nthreads=4)).change(BUSY) == 1


def test_bounds() -> None:
    """Never fewer than the least, nor more than the most."""
    assert Adaptive(Size(n_workers=1, maximum=5)).change(BUSY) == 3
    nothing = Load(workers=0, coming=0, queued=0, processing=0, occupancy=0.0, idle=0)
    assert Adaptive(Size(n_workers=3, maximum=5)).change(nothing) == 3


def test_a_few_long_tasks_do_not_ask_for_many_workers() -> None:
    """Three tasks of a minute each are three workers' work."""
    load = Load(workers=1, coming=0, queued=2, processing=1, occupancy=180.0, idle=0)
    assert Adaptive(Size(n_workers=1, maximum=100)).change(load) == 2


def test_full_memory_asks_for_twice_as_many() -> None:
    """Beyond 60 % of all limits."""
    load = replace(BUSY, occupancy=1.0, queued=0, memory_used=7.0, memory=10.0)
    assert Adaptive(Size(n_workers=1, maximum=100)).change(load) == 2


def test_workers_leave_after_three_looks() -> None:
    """Only those that have nothing to do."""
    adaptive = Adaptive(Size(n_workers=1, maximum=10))
    calm = Load(workers=8, coming=0, queued=0, processing=3, occupancy=3.0, idle=5)
    changes = [adaptive.change(calm) for _ in range(PATIENCE)]
    assert changes == [0, 0, -5]
