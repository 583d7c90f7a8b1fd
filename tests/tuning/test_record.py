"""The work of a flow run, as its report tells it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daskenv_lab.errors import ReportError
from daskenv_lab.report import WorkerReport
from daskenv_lab.tuning import Step, work_of
from tests.tuning.reports import flow_run, task_run, waited


def test_tasks_and_what_they_need() -> None:
    """In the order in which they were sent, with what each takes of the others."""
    work = work_of(
        flow_run(
            task_run(0, 1.0, 2.0, submitted=0.5, output_bytes=7, cpu=0.25, memory=50),
            task_run(1, 3.0, 1.0, submitted=0.5, needs=(0,)),
        )
    )
    first, second = work.nodes
    assert (first.task, first.seconds, first.output_bytes, first.memory) == ("work", 2.0, 7, 50)
    assert first.cpu == pytest.approx(0.25)
    assert second.needs == (0,)
    assert work.worker_memory == 2**27


def test_what_the_flow_does_itself() -> None:
    """Work of its own, sending, waiting, more work, and what is left to the end."""
    work = work_of(
        flow_run(
            task_run(0, 1.1, 2.0, submitted=1.0),
            task_run(1, 5.1, 2.0, submitted=5.0),
            waits=(waited(1.0, 3.1, 0), waited(5.0, 7.1, 1)),
        )
    )
    assert [step.waits for step in work.steps] == [(), (0,), (), (1,), ()]
    assert [step.sends for step in work.steps] == [(0,), (), (1,), (), ()]
    assert [step.seconds for step in work.steps] == pytest.approx([1.0, 0.0, 1.9, 0.0, 2.9])


def test_what_the_client_hears_late_is_its_own_work() -> None:
    """A result that is fetched for a second after its task's end would be on any cluster."""
    work = work_of(flow_run(task_run(0, 1.0, 2.0, submitted=1.0), waits=(waited(1.0, 4.0, 0),)))
    assert [step.seconds for step in work.steps] == pytest.approx([1.0, 0.0, 7.0])


def test_waiting_for_a_whole_second() -> None:
    """It is not the flow's own work; what is more than a second is, but for half of one."""
    sent = task_run(0, 1.0, 2.0, submitted=1.0)
    short = flow_run(sent, waits=(waited(1.0, 3.1, 0),), duration=3.6, ticks=True)
    assert sum(step.seconds for step in work_of(short).steps) == pytest.approx(1.0)
    assert work_of(short).phase == pytest.approx(0.6)
    long = flow_run(sent, waits=(waited(1.0, 3.1, 0),), duration=8.6, ticks=True)
    assert sum(step.seconds for step in work_of(long).steps) == pytest.approx(1.0 + 5.1)


def test_calls_of_a_map_are_sent_together() -> None:
    """The client takes note of each within microseconds."""
    runs = [task_run(i, 1.0 + i, 1.0, submitted=0.5 + i * 1e-5) for i in range(8)]
    assert work_of(flow_run(*runs)).steps[0].sends == tuple(range(8))


def test_a_workers_first_task() -> None:
    """What it takes more is told apart, and does not count as the task's own time."""
    runs = [
        task_run(i, at, 1.0, worker=f"w{i % 2}", compute=1.5 if i < 2 else 1.1)
        for i, at in enumerate((0.5, 0.5, 2.0, 2.0, 3.2, 3.2))
    ]
    work = work_of(flow_run(*runs))
    assert work.warmup.seconds == pytest.approx(0.4)
    assert work.warmup.workers == 2
    assert [node.seconds for node in work.nodes] == pytest.approx([1.1] * 6)
    assert work.cold.seconds == 0.0
    # The third begins, with what comes before the task's own code, 0.4 s after the first ended.
    assert work.overhead == pytest.approx(0.25, abs=0.2)


def test_a_batch_is_one_node() -> None:
    """Whoever takes a result of one of its task runs needs the whole batch."""
    runs = [
        task_run(0, 0.0, 1.0, batch=0, compute=3.2),
        task_run(1, 1.0, 1.0, batch=0, compute=None),
        task_run(2, 2.0, 1.0, batch=0, compute=None),
        task_run(3, 4.0, 1.0, needs=(0,)),
    ]
    work = work_of(flow_run(*runs, waits=(waited(0.0, 5.0, 1, 2, 3),)))
    assert len(work.nodes) == 2
    assert work.nodes[0].seconds == pytest.approx(3.0, abs=0.25)
    assert work.nodes[1].needs == (0,)
    assert work.steps[1].waits == (0, 1)


def test_results_that_stay_and_that_go() -> None:
    """One that was let go of soon after its last use is not held."""
    runs = [
        task_run(0, 0.0, 1.0, released=2.2),
        task_run(1, 0.0, 1.0, released=9.0),
        task_run(2, 1.0, 1.0, needs=(0, 1)),
    ]
    assert [node.held for node in work_of(flow_run(*runs)).nodes] == [False, True, True]


def test_task_runs_that_never_began() -> None:
    """They take no time, and are there."""
    runs = [
        task_run(0, 0.0, 1.0, state="Failed"),
        task_run(
            1, 0.0, 1.0, state="NotReady", start=None, duration=None, compute=None, needs=(0,)
        ),
    ]
    assert [node.seconds for node in work_of(flow_run(*runs)).nodes] == [1.0, 0.0]


def test_no_tasks_and_one() -> None:
    """The flow's own code is all that there is."""
    assert work_of(flow_run()).steps == (Step(seconds=10.0),)
    assert len(work_of(flow_run(task_run(0, 1.0, 1.0))).nodes) == 1


def test_clocks_that_differ() -> None:
    """A worker whose clock is a minute behind begins tasks before they were sent."""
    apart = work_of(flow_run(task_run(0, -59.0, 2.0, submitted=0.9), waits=(waited(0.9, 3.0, 0),)))
    assert [step.seconds for step in apart.steps] == pytest.approx([0.9, 0.0, 7.1], abs=0.15)


def test_tasks_that_tasks_send() -> None:
    """They are ready when their inputs are: the flow's own code did not send them."""
    runs = [task_run(0, 0.0, 1.0), task_run(1, 0.2, 1.0, submitted=None)]
    assert [node.inner for node in work_of(flow_run(*runs)).nodes] == [False, True]


def test_reports_that_tell_too_little() -> None:
    """One sentence, with what to do."""
    run = flow_run(task_run(0, 0.0, 1.0))
    with pytest.raises(ReportError, match=r"ended Failed.*run the flow again"):
        work_of(replace(run, state="Failed"))
    with pytest.raises(
        ReportError, match=r"does not say what its tasks needed.*run the flow again"
    ):
        work_of(replace(run, workers=()))


def test_a_worker_that_has_just_come() -> None:
    """Its first task takes longer than on those that have run flows before."""
    workers = (
        WorkerReport(address="w0", nthreads=1, memory_limit=0, joined=0.0),
        WorkerReport(address="w1", nthreads=1, memory_limit=0, joined=2.0, startup=1.5),
    )
    runs = [
        task_run(0, 0.5, 1.0, compute=1.2),
        task_run(1, 2.5, 1.0, compute=3.1, worker="w1"),
        *(task_run(i, i + 2.0, 1.0, compute=1.1) for i in range(2, 6)),
    ]
    warm = work_of(flow_run(*runs, workers=workers))
    assert (warm.warmup.seconds, warm.cold.seconds) == (pytest.approx(0.1), pytest.approx(2.0))
