"""Which clusters are suggested, and why."""

from __future__ import annotations

import itertools
from typing import Any

import dask
import pytest

from daskenv_lab import DaskCloudProviderEnvironment, DaskGatewayEnvironment, sizes
from daskenv_lab.tuning import Advice, Conditions, Model, Node, Step, Work, advise, candidates
from daskenv_lab.tuning.candidates import HEADROOM
from tests.tuning.reports import flow_run, task_run, waited

WORKER = flow_run().workers[0]
GATEWAY = DaskGatewayEnvironment("local", n_workers=2)
FARGATE = DaskCloudProviderEnvironment("fargate", n_workers=2, image="example/flows:1")


def advice(environment: Any = GATEWAY, *, n: int = 64, cpu: float = 0.0, **asked: Any) -> Advice:
    """Advise on a map of tasks of two seconds, after a second of the flow's own."""
    tasks = tuple(
        Node(task="work", seconds=2.0, cpu=cpu, memory=400 * 2**20, output_bytes=1000)
        for _ in range(n)
    )
    steps = (Step(seconds=1.0, sends=tuple(range(n))), Step(waits=tuple(range(n))))
    work = Work(nodes=tasks, steps=steps, worker_memory=200 * 2**20)
    conditions = Conditions(recorded=WORKER, startup=asked.pop("startup", 2.0))
    looked_at = candidates(environment, conditions, most=asked.pop("most", 64))
    return advise(Model([work]), looked_at, flow="etl", conditions=conditions, **asked)


def test_the_frontier() -> None:
    """The dearer, the faster, and nothing that another one beats in both."""
    found = advice()
    hours = [s.prediction.worker_seconds.likely for s in found.frontier]
    times = [s.prediction.seconds.likely for s in found.frontier]
    assert len(found.frontier) >= 3
    assert hours == sorted(hours)
    assert times == sorted(times, reverse=True)
    assert not found.money
    assert found.looked_at == 23


def test_what_stands_out() -> None:
    """The cheapest under a deadline, the fastest under a budget, and the knee between the ends."""
    found = advice(deadline=20.0, budget=0.06)
    assert found.cheapest is not None
    assert found.cheapest.prediction.seconds.likely <= 20.0
    cheaper = found.frontier[: found.frontier.index(found.cheapest)]
    assert all(s.prediction.seconds.likely > 20.0 for s in cheaper)
    assert found.fastest is not None
    assert found.fastest.prediction.worker_seconds.likely / 3600 <= 0.06
    assert found.knee in found.frontier
    assert advice(deadline=0.5).cheapest is None
    assert found.cheapest.environment.n_workers
    assert "s of work" in found.cheapest.why


def test_prices_of_a_gateways_workers() -> None:
    """An hour of a worker has the price that the user says."""
    with dask.config.set({"daskenv.prices.worker-hour": 3.6}):
        found = advice()
    assert found.money
    assert found.source == "daskenv.prices.worker-hour"
    first = found.frontier[0].prediction
    assert first.cost is not None
    assert first.cost.likely == pytest.approx(first.worker_seconds.likely / 1000)


def test_fargate() -> None:
    """Only sizes that Fargate has, with as much memory as is needed and some headroom."""
    found = advice(FARGATE, cpu=1.0)
    assert found.looked_at == 5 * 23
    assert "Fargate in us-east-1" in found.source
    for suggestion in found.frontier:
        asked = suggestion.environment.extra
        assert asked["worker_mem"] in sizes.memories(asked["worker_cpu"])
        peak = suggestion.prediction.peak_memory.likely
        assert asked["worker_mem"] * 2**20 >= HEADROOM * peak
        assert "headroom" in suggestion.why
    # Tasks that compute: a quarter of a CPU takes four times as long.
    slow = [s for s in found.frontier if s.environment.extra["worker_cpu"] == 256]
    fast = [s for s in found.frontier if s.environment.extra["worker_cpu"] >= 1024]
    if slow and fast:
        assert max(s.prediction.seconds.likely for s in slow) > 2 * min(
            s.prediction.seconds.likely for s in fast
        )


def test_fargate_bought_otherwise() -> None:
    """What the knee's run costs on Spot, on ARM and on both; not what it is already."""
    found = advice(FARGATE)
    assert found.knee is not None
    assert found.knee.prediction.cost is not None
    assert list(found.otherwise) == ["Spot", "ARM", "ARM Spot"]
    assert found.otherwise["ARM Spot"] < found.otherwise["Spot"] < found.otherwise["ARM"]
    assert found.otherwise["ARM"] < found.knee.prediction.cost.likely
    spot = FARGATE.replace(fargate_spot=True)
    assert list(advice(spot).otherwise) == ["ARM", "ARM Spot"]
    assert advice().otherwise == {}


def test_tasks_that_wait_need_no_cores() -> None:
    """The smallest CPU is on the frontier, and the largest is not."""
    found = advice(FARGATE, cpu=0.0)
    assert {s.environment.extra["worker_cpu"] for s in found.frontier} <= {256, 512}


def test_adaptive_or_fixed() -> None:
    """Where workers take minutes to start, a fixed size does better, and is said to."""
    assert advice(startup=90.0).adaptive.startswith("Fixed sizes do better")
    assert "asks for more, up to 64" in advice(startup=90.0).adaptive


def test_one_task_and_none() -> None:
    """One worker is all that is suggested."""
    assert [s.environment.n_workers for s in advice(n=1).frontier] == [1]
    assert [s.environment.n_workers for s in advice(n=0).frontier] == [1]


def test_more_workers_take_no_longer() -> None:
    """Among the fixed sizes of a map of equal tasks."""
    fixed = [s for s in advice().frontier if s.environment.n_workers]
    by_size = sorted(fixed, key=lambda s: s.environment.n_workers or 0)
    for fewer, more in itertools.pairwise(by_size):
        assert more.prediction.seconds.likely <= fewer.prediction.seconds.likely


def test_the_frontier_as_it_is_shown() -> None:
    """Each further one costs more and takes less, also where durations spread widely."""
    runs = [
        task_run(i, float(i), 0.1 + (i * 37 % 13) ** 2 / 9, submitted=0.1, cpu=0.0)
        for i in range(8)
    ]
    recorded = flow_run(*runs, waits=(waited(0.1, 60.0, *range(8)),), duration=61.0)
    conditions = Conditions(recorded=WORKER, startup=2.0, machine=2)
    told = advise(
        Model.of([recorded]),
        candidates(DaskGatewayEnvironment("local"), conditions, most=64),
        flow="etl",
        conditions=conditions,
    )
    times = [one.prediction.seconds.likely for one in told.frontier]
    costs = [one.prediction.worker_seconds.likely for one in told.frontier]
    assert times == sorted(set(times), reverse=True)
    assert costs == sorted(costs)
