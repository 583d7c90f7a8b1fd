"""What Dask would do with a flow's work: each rule by hand, and what always holds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskenv_lab.tuning import Model, Node, Size, Step, Warmup, Work
from daskenv_lab.tuning.limit import critical_path
from daskenv_lab.tuning.simulated import Simulated
from daskenv_lab.tuning.simulation import simulate

GB = 2**30


def node(seconds: float, *needs: int, **more: Any) -> Node:
    """Make a node that waits."""
    return Node(**{"task": "work", "seconds": seconds, "needs": needs, "cpu": 0.0, **more})


def sent(*nodes: Node, **more: Any) -> Work:
    """Make a flow that sends all nodes at once."""
    return Work(nodes=nodes, steps=(Step(sends=tuple(range(len(nodes)))),), **more)


def run(work: Work, n_workers: int, **size: Any) -> Simulated:
    """Simulate with a timeline."""
    return simulate(work, Size(n_workers=n_workers, **size), timeline=True)


def test_tasks_that_need_nothing() -> None:
    """As many at once as there are threads, the first sent first."""
    work = sent(*[node(1.0)] * 5)
    assert run(work, 2).seconds == 3.0
    assert run(work, 1, nthreads=2).seconds == 3.0
    assert run(work, 5).seconds == 1.0
    placed = run(work, 2).placed
    assert [p.node for p in sorted(placed, key=lambda p: (p.start, p.node))] == [0, 1, 2, 3, 4]
    assert run(work, 2).busy_seconds == 5.0
    assert run(work, 2).thread_seconds == 6.0
    assert run(work, 2).worker_seconds == 6.0


def test_chain_and_diamond() -> None:
    """A task starts once all that it needs has ended."""
    assert run(sent(node(1), node(2, 0), node(3, 1)), 4).seconds == 6.0
    diamond = sent(node(1), node(2, 0), node(3, 0), node(1, 1, 2))
    # Both go to the holder of what they need; half a second later the idle one takes over.
    assert run(diamond, 2).seconds == 5.5
    assert run(diamond, 1).seconds == 7.0


def test_a_task_goes_to_what_it_needs() -> None:
    """Where the larger input is, so that the smaller one is fetched."""
    work = sent(
        node(1.0, output_bytes=100_000_000),
        node(1.0, output_bytes=10_000_000),
        node(1.0, 0, 1),
        bandwidth=10e6,
        latency=0.5,
    )
    told = run(work, 2)
    large, _, joined = sorted(told.placed, key=lambda p: p.node)
    assert joined.worker == large.worker
    assert joined.start == pytest.approx(1.0 + 0.5 + 1.0)
    assert told.transfer_seconds == pytest.approx(1.5)


def test_an_idle_worker_fetches_where_that_is_sooner() -> None:
    """Two that need one result: the second waits for the holder, or fetches, as is quicker."""
    nodes = (node(1.0, output_bytes=1_000_000), node(5.0, 0), node(5.0, 0))
    assert run(sent(*nodes, bandwidth=1e7), 2).seconds == pytest.approx(1 + 0.5 + 0.1 + 5)
    assert run(sent(*nodes, bandwidth=1e5), 2).seconds == pytest.approx(11.0)


def test_who_has_nothing_takes_from_who_has_much() -> None:
    """Ten that need one result do not all wait for its holder."""
    work = sent(node(1.0, output_bytes=10), *[node(1.0, 0) for _ in range(10)])
    told = run(work, 5)
    assert told.seconds <= 5.0
    assert len({p.worker for p in told.placed}) == 5


def test_the_flows_own_code() -> None:
    """It works, waits and sends, and what it does alone is counted."""
    steps = (
        Step(seconds=1.0, sends=(0,)),
        Step(seconds=0.5, waits=(0,)),
        Step(seconds=3.0, sends=(1,)),
        Step(waits=(1,)),
        Step(seconds=1.0),
    )
    told = run(Work(nodes=(node(2.0), node(1.0)), steps=steps), 1)
    assert told.seconds == 1.0 + 2.0 + 3.0 + 1.0 + 1.0
    assert told.client_seconds == pytest.approx(5.0)


def test_a_flow_waits_for_what_it_does_not_await() -> None:
    """As Prefect does."""
    assert (
        run(Work(nodes=(node(9.0),), steps=(Step(sends=(0,)), Step(seconds=1.0))), 1).seconds == 9
    )


def test_what_is_queued_comes_after_what_follows() -> None:
    """Five chains on two workers: the fifth begins when a worker has nothing that goes on."""
    chains = [node(1.0) for _ in range(5)]
    chains += [node(1.0, i, task="next") for i in range(5)]
    placed = {p.node: p for p in run(sent(*chains), 2).placed}
    assert placed[4].start >= max(placed[i].start for i in (5, 6))
    # Each goes on where it began, so that nothing is moved.
    assert all(placed[5 + i].worker == placed[i].worker for i in range(5))


def test_few_calls_are_spread() -> None:
    """Four on two workers of four threads: two on each."""
    placed = run(sent(*[node(1.0)] * 4), 2, nthreads=4).placed
    assert sorted(p.worker for p in placed) == [0, 0, 1, 1]


def test_what_nobody_sends() -> None:
    """It would be waited for in vain: that is told, also where workers would come."""
    work = Work(nodes=(node(1.0),), steps=(Step(seconds=1.0),))
    assert "1 tasks would never run" in (run(work, 1).fault or "")
    assert "1 tasks would never run" in (run(work, 1, maximum=3).fault or "")
    assert run(sent(node(1.0)), 0, maximum=0).fault


def test_prefects_ticks() -> None:
    """A run ends at the next of them."""
    assert run(sent(node(2.5), phase=0.25), 1).seconds == 3.25
    assert run(sent(node(0.1), phase=0.25), 1).seconds == 0.25


def test_tasks_of_tasks() -> None:
    """They are ready when their inputs are."""
    work = Work(nodes=(node(1.0), node(2.0, 0, inner=True)), steps=(Step(sends=(0,)),))
    assert run(work, 1).seconds == 3.0


def test_between_tasks_and_before_the_first() -> None:
    """A thread rests between two tasks, and a worker warms up once."""
    work = sent(*[node(1.0)] * 3, overhead=0.1, warmup=Warmup(0.5))
    assert run(work, 1).seconds == pytest.approx(0.5 + 3 * 1.0 + 2 * 0.1)


def test_slower_cores() -> None:
    """What computes takes longer; what waits does not."""
    assert run(sent(node(4.0, cpu=1.0)), 1, speed=0.5).seconds == 8.0
    assert run(sent(node(4.0, cpu=0.25)), 1, speed=0.5).seconds == 5.0
    assert run(sent(node(4.0, cpu=0.0)), 1, speed=0.5).seconds == 4.0


def test_workers_on_one_machine() -> None:
    """Those that compute share its cores; those that wait do not mind."""
    computing = sent(*[node(1.0, cpu=1.0)] * 8)
    assert run(computing, 8, cores=2).seconds == 4.0
    assert run(computing, 2, cores=2).seconds == 4.0
    assert run(sent(*[node(1.0)] * 8), 8, cores=2).seconds == 1.0
    assert run(computing, 8).seconds == 1.0
    chain = sent(*(node(1.0, *range(max(i - 1, 0), i), cpu=1.0) for i in range(6)))
    assert run(chain, 8, cores=2).seconds == 6.0


def test_workers_on_one_machine_open_their_contexts_together() -> None:
    """What two did at once on two cores takes eight of them four times as long."""
    work = sent(*[node(1.0, cpu=0.0)] * 8, warmup=Warmup(0.5, workers=2))
    assert run(work, 2, cores=2).seconds == 4.5
    assert run(work, 8, cores=2).seconds == 3.0
    assert run(work, 8).seconds == 1.5


def test_a_cluster_of_its_own() -> None:
    """Its first workers start as well, and are paid while they do."""
    told = run(sent(node(1.0)), 2, fresh=True, startup=30.0)
    assert told.seconds == 31.0
    assert told.worker_seconds == 62.0
    assert run(sent(node(1.0)), 2, startup=30.0).seconds == 1.0
    cold = sent(*[node(1.0)] * 2, warmup=Warmup(0.5), cold=Warmup(4.0))
    assert run(cold, 1, fresh=True).seconds == 6.0
    assert run(cold, 1).seconds == 2.5


def test_looks_at_the_load() -> None:
    """A cluster that looks at its load less often grows later."""
    work = sent(*[node(1.0)] * 60)
    often = run(work, 1, maximum=8).seconds
    assert often < run(work, 1, maximum=8, interval=3.0).seconds < often + 3.0


def test_adaptive_scaling() -> None:
    """Workers come when there is much to do, after they have started, and leave again."""
    work = sent(*[node(2.0)] * 40, node(30.0))
    told = run(work, 1, maximum=8, startup=3.0)
    assert told.seconds < run(work, 1).seconds / 2
    assert len(told.workers) == 8
    assert min(p.start for p in told.placed if p.worker == 1) >= 3.5
    assert sum(until < told.seconds for _, until in told.workers) >= 6
    assert told.worker_seconds < 8 * told.seconds
    assert run(work, 8).seconds <= told.seconds


def test_workers_that_are_not_wanted_any_more() -> None:
    """Asked for, and let go of before they came: they are given nothing, and paid until then."""
    told = run(sent(*[node(1.0)] * 30), 1, maximum=6, startup=5.0, fresh=True)
    assert told.fault is None
    assert {p.worker for p in told.placed} <= set(range(6))
    assert all(until - since <= told.seconds for since, until in told.workers)


def test_a_cluster_of_nobody() -> None:
    """It would never end, and says so; adaptive from zero it does."""
    told = run(sent(node(1.0)), 0)
    assert math.isinf(told.seconds)
    assert "1 tasks would never run" in (told.fault or "")
    assert run(sent(node(1.0)), 0, maximum=2, startup=5.0).seconds < 10.0


def test_no_tasks() -> None:
    """The flow's own code is all that there is."""
    assert run(Work(nodes=(), steps=(Step(seconds=2.0),)), 1).seconds == 2.0


def test_memory_that_is_held() -> None:
    """Results are held until the end, or until they were used; what runs counts as well."""
    nodes = (node(1.0, output_bytes=GB, memory=GB // 2), node(1.0, 0, memory=GB // 4))
    assert run(sent(*nodes, worker_memory=GB), 1).peak_memory == 2.25 * GB
    chain = [node(1.0, output_bytes=GB, held=False)]
    chain += [node(1.0, i, output_bytes=GB, held=False) for i in range(5)]
    assert run(sent(*chain), 1).peak_memory == 2 * GB


def test_memory_that_is_too_little() -> None:
    """Results go to disk; a task that does not fit is told of with the figures."""
    nodes = [node(1.0, output_bytes=GB) for _ in range(6)]
    told = run(sent(*nodes), 1, memory=4 * GB)
    assert told.spilled > 2 * GB
    assert told.seconds > 6.0
    assert told.peak_memory <= 4 * GB * 0.7 + 1
    assert not run(sent(*nodes), 1, memory=16 * GB).spilled
    fault = run(sent(node(1.0, memory=4 * GB)), 1, memory=4 * GB).fault
    assert fault is not None
    assert "a 'work' needs 4.0 GiB on a worker that may use 4.0 GiB" in fault


def test_tasks_that_do_not_fit_beside_each_other() -> None:
    """A worker of two threads runs one at a time where two would be too much."""
    nodes = [node(1.0, memory=GB) for _ in range(4)]
    assert run(sent(*nodes), 1, nthreads=2, memory=8 * GB).seconds == 2.0
    assert run(sent(*nodes), 1, nthreads=2, memory=GB * 3 // 2).seconds == 4.0


@st.composite
def works(draw: st.DrawFn) -> Work:
    """Draw a graph, and a flow that sends it in parts and waits in between."""
    n = draw(st.integers(0, 25))
    nodes = []
    for i in range(n):
        needs = draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else []
        seconds = draw(st.floats(0.0, 10.0))
        output = draw(st.sampled_from([0, 1000, 50_000_000]))
        nodes.append(node(seconds, *needs, output_bytes=output, held=draw(st.booleans())))
    cut = draw(st.integers(0, n))
    first, second = tuple(range(cut)), tuple(range(cut, n))
    waits = tuple(draw(st.lists(st.sampled_from(first), unique=True))) if first else ()
    return Work(
        nodes=tuple(nodes),
        steps=(Step(seconds=0.5, sends=first), Step(waits=waits), Step(seconds=0.2, sends=second)),
        latency=0.01,
        overhead=draw(st.sampled_from([0.0, 0.05])),
    )


@settings(max_examples=150, deadline=None)
@given(works(), st.integers(1, 4), st.sampled_from([None, 0, 5]), st.integers(1, 20))
def test_a_glance_is_no_guess(work: Work, n: int, further: int | None, memory: int) -> None:
    """What is seen of one size holds for all others with memory enough, and only for them."""
    model = Model([replace(work, worker_memory=100_000_000)])
    maximum = None if further is None else n + further
    size = Size(n_workers=n, maximum=maximum, memory=memory * 50_000_000, startup=2.5)
    found, told = model.glance(size), simulate(model.work, size)
    assert found.seconds.likely == told.seconds
    assert found.worker_seconds.likely == told.worker_seconds
    assert (found.peak_memory.likely, found.spilled) == (told.peak_memory, told.spilled)
    assert found.fault == told.fault


@settings(max_examples=150, deadline=None)
@given(works(), st.integers(1, 5), st.integers(1, 3), st.sampled_from([None, 0, 2, 7]))
def test_what_always_holds(work: Work, n_workers: int, nthreads: int, further: int | None) -> None:
    """Each task runs once, after what it needs, on a thread of its own; no bound is beaten."""
    maximum = None if further is None else n_workers + further
    told = run(work, n_workers, nthreads=nthreads, maximum=maximum, startup=2.5)
    assert told.fault is None
    assert sorted(p.node for p in told.placed) == list(range(len(work.nodes)))
    ends = {p.node: p.end for p in told.placed}
    for p in told.placed:
        assert p.end - p.start >= work.nodes[p.node].seconds - 1e-9
        assert all(ends[need] <= p.start + 1e-9 for need in work.nodes[p.node].needs)
        beside = [o for o in told.placed if o.worker == p.worker and o.start <= p.start < o.end]
        assert len(beside) <= nthreads
    assert told.seconds >= max(ends.values(), default=0.0) - 1e-9
    assert told.seconds >= critical_path(work, Size(n_workers=1))[0] - 1e-6
    most = (maximum or n_workers) * nthreads
    assert told.seconds >= work.total / most - 1e-6
    assert told.busy_seconds == pytest.approx(work.total)
    assert simulate(work, Size(n_workers=n_workers)) == simulate(work, Size(n_workers=n_workers))


@settings(max_examples=150, deadline=None)
@given(works(), st.integers(1, 4), st.integers(1, 4), st.sampled_from([None, 0, 3]), st.data())
def test_it_ends_with_little_memory(
    work: Work, n_workers: int, nthreads: int, further: int | None, data: st.DataObject
) -> None:
    """All tasks run though workers spill and pause, or it is told what does not fit."""
    grows = data.draw(
        st.lists(
            st.sampled_from([0, GB // 8, GB // 2, GB]),
            min_size=len(work.nodes),
            max_size=len(work.nodes),
        )
    )
    nodes = tuple(replace(n, memory=m) for n, m in zip(work.nodes, grows, strict=True))
    maximum = None if further is None else n_workers + further
    told = run(replace(work, nodes=nodes), n_workers, nthreads=nthreads, maximum=maximum, memory=GB)
    if told.fault is None:
        assert len(told.placed) == len(nodes)
        assert told.peak_memory <= GB
        assert told.busy_seconds <= told.thread_seconds + 1e-6
    else:
        assert max(grows) == GB
        assert "and is killed above 95% of it" in told.fault


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.1, 5.0), st.integers(1, 12))
def test_more_workers_never_take_longer(n: int, seconds: float, n_workers: int) -> None:
    """For equal tasks that do not need each other."""
    work = sent(*[node(seconds)] * n, overhead=0.01)
    fewer, more = run(work, n_workers).seconds, run(work, n_workers + 1).seconds
    assert more <= fewer + 1e-9
    assert fewer >= n * seconds / n_workers - 1e-9
