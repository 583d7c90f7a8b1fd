"""What Dask takes tasks to last."""

from __future__ import annotations

from daskenv_lab.tuning.durations import UNKNOWN, Durations


def test_the_last_one_counts_for_half() -> None:
    """And before one has ended, twice what the longest has taken so far."""
    seen = Durations([0, 0, 1], 2)
    assert seen.usual(0) == UNKNOWN
    seen.begin(0, 0.0)
    assert seen.watch(3.0)
    assert seen.usual(1) == 6.0
    assert seen.usual(2) == UNKNOWN
    seen.end(0, 4.0)
    assert seen.usual(1) == 4.0
    seen.begin(1, 4.0)
    seen.end(1, 6.0)
    assert seen.usual(0) == 3.0


def test_one_that_takes_far_longer_is_news() -> None:
    """What was known is forgotten when a call takes more than twice as long."""
    seen = Durations([0, 0], 1)
    seen.begin(0, 0.0)
    seen.end(0, 1.0)
    seen.begin(1, 1.0)
    assert not seen.watch(3.0)
    assert seen.watch(3.5)
    assert seen.usual(1) == 5.0


def test_all_that_is_to_be_done() -> None:
    """What waits and what runs, each as its name says."""
    seen = Durations([0, 0, 1], 2)
    for node in range(3):
        seen.ready(node)
    assert seen.occupancy == 3 * UNKNOWN
    seen.begin(0, 0.0)
    seen.end(0, 4.0)
    assert seen.occupancy == 4.0 + UNKNOWN
