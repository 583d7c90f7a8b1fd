"""What computing takes on cores that many tasks share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daskenv_lab.tuning.machine import Machine, stretch

CPU = st.floats(0.001, 1.0)
CORES = st.integers(1, 64)


@given(st.integers(1, 500), CPU, CORES)
def test_bounds(tasks: int, cpu: float, cores: int) -> None:
    """Never shorter than alone, nor longer than if all computed all the time."""
    found = stretch(tasks, cpu, cores)
    assert 1.0 <= found <= max(tasks / cores, 1.0)
    # The cores do no more than they can.
    assert tasks * cpu / (1 - cpu + cpu * found) <= cores * (1 + 1e-9) or tasks <= cores


@given(st.integers(1, 500), CPU, CORES)
def test_more_tasks_do_no_less(tasks: int, cpu: float, cores: int) -> None:
    """What all together get done in a second never falls with one more."""

    def done(n: int) -> float:
        return n / (1 - cpu + cpu * stretch(n, cpu, cores))

    assert done(tasks + 1) >= done(tasks) * (1 - 1e-9)


def test_tasks_that_come_and_go() -> None:
    """Only those that run at once wait for each other."""
    machine = Machine(2)
    assert [machine.start(1.0, 4.0) for _ in range(4)] == [0.0, 0.0, 2.0, 4.0]
    for _ in range(3):
        machine.finish(1.0)
    assert machine.start(1.0, 4.0) == 0.0
    assert machine.waited == 6.0
    assert Machine(0).start(1.0, 4.0) == 0.0
