"""How well a flow run on two workers tells what others take: predicted beside measured.

Flows of eight shapes are recorded once on two workers, and then run for real on 1, 2, 4, 8 and 16
with other times than those recorded, drawn with another seed; the tasks mostly wait, so that a
machine of few cores runs sixteen of them at once. Each worker is a process with one thread.

- `time`: predicted and measured seconds, and the error;
- `adaptive`: three of the flows on a cluster of the embedded Gateway that follows its load, with
  the start-up time that its workers showed in another run;
- `size`: the cheapest size under a deadline, beside the best of all measured ones;
- `speed`: how long the simulation takes for 10,000 tasks on 500 workers, and for 200 sizes.

Run it with ``python tests/benchmarks/bench_tune.py 2>/dev/null``; some twenty minutes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import daskenv_lab

sys.path.insert(0, str(Path(__file__).parents[2]))

SIZES = (1, 2, 4, 8, 16)
RECORDED_ON = 2
CORES = os.cpu_count() or 1
"""All workers are on this machine, as those of the embedded Gateway are."""

ADAPTIVE = ("wide map", "diamond", "skewed map")
FITTED, SHOWN = 11, 29
"""Seeds: of the recorded runs, and of those that are predicted; other ones for each shape."""


def measure(folder: Path, shapes: Sequence[str], sizes: Sequence[int] = SIZES) -> None:
    """Run the flows for real that a folder has no report of yet, and keep their reports there."""
    import distributed

    from daskenv_lab.flows.flow_run import run_flow
    from tests.benchmarks.tune_flows import SHAPES, warm_up

    wanted = [
        (n, shape, seed)
        for n in sizes
        for shape in shapes
        for seed in ([FITTED, SHOWN] if n == RECORDED_ON else [SHOWN])
        if not _path(folder, shape, n, seed).exists()
    ]
    for n in sorted({n for n, _, _ in wanted}):
        with distributed.LocalCluster(
            n_workers=n, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster:
            for _ in range(2):
                run_flow(warm_up, {"n": 4 * n}, on=cluster, progress=False)
            for _, shape, seed in (run for run in wanted if run[0] == n):
                report = run_flow(
                    SHAPES[shape],
                    {"seed": seed + 100 * list(SHAPES).index(shape)},
                    on=cluster,
                    progress=False,
                )
                if not report.ok:
                    raise SystemExit(f"{shape} on {n}: {report} {report.error}")
                _path(folder, shape, n, seed).write_bytes(
                    gzip.compress(json.dumps(report.to_dict()).encode())
                )


def show(folder: Path, shapes: list[str]) -> None:
    """Print predicted beside measured times, and how good the suggested sizes are."""
    from daskenv_lab import history
    from daskenv_lab.tuning import Model, Size

    errors: list[float] = []
    owns: list[float] = []
    good = 0
    print("| shape | workers | predicted | measured | error |\n|---|---|---|---|---|")
    regrets = []
    for shape in shapes:
        model = Model.of([history.load(_path(folder, shape, RECORDED_ON, FITTED))])
        predicted, measured = {}, {}
        for n in SIZES:
            report = history.load(_path(folder, shape, n, SHOWN))
            predicted[n] = model.predict(Size(n_workers=n, cores=CORES)).seconds
            measured[n] = report.duration
            error = predicted[n].likely / measured[n] - 1
            errors.append(abs(error))
            own = Model.of([report]).glance(Size(n_workers=n, cores=CORES)).seconds.likely
            owns.append(abs(own / measured[n] - 1))
            low, high = predicted[n].low, predicted[n].high
            print(
                f"| {shape} | {n} | {predicted[n].likely:.1f} ({low:.1f} to {high:.1f}) s "
                f"| {measured[n]:.1f} s | {error:+.0%} |"
            )
        # Halfway, on a logarithmic axis, between the fastest and the slowest.
        deadline = (min(measured.values()) * max(measured.values())) ** 0.5
        within = [n for n in SIZES if predicted[n].likely <= deadline]
        taken = min(within, key=lambda n: n * predicted[n].likely)
        kept = [n for n in SIZES if measured[n] <= deadline]
        best = min(kept, key=lambda n: n * measured[n])
        regret = taken * measured[taken] / (best * measured[best]) - 1
        late = measured[taken] / deadline - 1
        good += regret <= 0.1 and late <= 0.1
        regrets.append((shape, deadline, taken, best, regret, late))
    print(
        f"\nmedian error {statistics.median(errors):.1%}, worst {max(errors):.1%} "
        "(goals: 10 % and 25 %); of a run simulated with its own times: median "
        f"{statistics.median(owns):.1%}, worst {max(owns):.1%}\n"
    )
    print("| shape | deadline | suggested | best | costs more by | late by |")
    print("|---|---|---|---|---|---|")
    for shape, deadline, taken, best, regret, late in regrets:
        print(
            f"| {shape} | {deadline:.1f} s | {taken} | {best} | {regret:.0%} | {max(late, 0):.0%} |"
        )
    print(f"\nwithin 10 % of the best: {good} of {len(shapes)} (goal: six of eight)")


def adaptive(folder: Path) -> None:
    """Run flows on a Gateway's cluster of one to eight workers, beside what was predicted."""
    import daskenv_lab
    from daskenv_lab import history
    from daskenv_lab.advising import GATEWAY_INTERVAL
    from daskenv_lab.tuning import Model, Size, work_of
    from tests.benchmarks.tune_flows import SHAPES, warm_up

    measure(folder, ADAPTIVE, [RECORDED_ON])
    print("\n| shape | from one to eight workers | measured | error |\n|---|---|---|---|")
    session = daskenv_lab.up(
        "local", name="tuned", adaptive_min_workers=1, adaptive_max_workers=8, worker_threads=1
    )
    try:
        session.run(warm_up, n=4)
        first = session.run(warm_up, n=160)
        startups = [worker.startup for worker in first.workers if worker.startup is not None]
        size = Size(
            n_workers=1,
            maximum=8,
            cores=CORES,
            interval=GATEWAY_INTERVAL,
            startup=statistics.median(startups),
        )
        cold = work_of(first).cold
        for shape in ADAPTIVE:
            _rest(session)
            model = Model.of([history.load(_path(folder, shape, RECORDED_ON, FITTED))])
            model = Model([replace(model.work, cold=cold)])
            told = model.predict(size).seconds
            report = session.run(SHAPES[shape], seed=SHOWN + 100 * list(SHAPES).index(shape))
            print(
                f"| {shape} | {told.likely:.1f} ({told.low:.1f} to {told.high:.1f}) s "
                f"| {report.duration:.1f} s | {told.likely / report.duration - 1:+.0%} |"
            )
        print(
            f"\nworkers took {size.startup:.1f} s to start, and their first tasks "
            f"{cold.seconds:.1f} s more, {cold.workers} at once"
        )
    finally:
        session.down()


def _rest(session: daskenv_lab.Session) -> None:
    """Wait until one worker is left."""
    until = time.monotonic() + 120
    while session.info().n_workers > 1:
        if time.monotonic() > until:
            raise SystemExit(
                f"{session.info().n_workers} workers stay; ask again on a quiet machine"
            )
        time.sleep(0.5)


def speed() -> None:
    """Print how long simulations take."""
    from daskenv_lab.tuning import Model, Node, Size, Step, Work

    n = 10_000
    places = tuple(range(n))
    flat = Work(
        nodes=tuple(Node(task="t", seconds=1 + i % 7 / 10) for i in places),
        steps=(Step(sends=places), Step(waits=places)),
    )
    halves = Work(
        nodes=tuple(
            Node(
                task="t", seconds=1.0, needs=(i - n // 2,) if i >= n // 2 else (), output_bytes=100
            )
            for i in places
        ),
        steps=(Step(sends=places), Step(waits=places)),
    )
    for name, work in (("10,000 tasks", flat), ("5,000 that need 5,000", halves)):
        model = Model([work])
        began = time.perf_counter()
        model.glance(Size(n_workers=500))
        once = time.perf_counter() - began
        began = time.perf_counter()
        for i in range(100):
            model.glance(Size(n_workers=5 * (i + 1)))
            model.glance(Size(n_workers=1, maximum=5 * (i + 1), startup=30.0))
        many = time.perf_counter() - began
        print(
            f"{name}: on 500 workers {once:.2f} s (goal: 2 s); 200 sizes, half of them adaptive, "
            f"{many:.1f} s (goal: 20 s)"
        )


def main() -> None:
    """Take the measurements that were asked for, and print tables."""
    from tests.benchmarks.tune_flows import SHAPES

    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["time", "adaptive", "speed"]
    parser.add_argument("--only", nargs="*", choices=parts, default=parts)
    parser.add_argument("--shapes", nargs="*", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--reports", type=Path, help="Use, or keep, the runs in this folder.")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.reports or Path(scratch)
        folder.mkdir(exist_ok=True)
        if "time" in chosen.only:
            measure(folder, chosen.shapes)
            show(folder, chosen.shapes)
        if "adaptive" in chosen.only:
            adaptive(folder)
        if "speed" in chosen.only:
            speed()


def _path(folder: Path, shape: str, n: int, seed: int) -> Path:
    return folder / f"{shape.replace(' ', '-')}-{n}-{seed}.json.gz"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(
            DASK_DASKENV__STATE_DIR=f"{home}/state",
            PREFECT_HOME=f"{home}/prefect",
            PREFECT_LOGGING_LEVEL="ERROR",
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
        )
        from daskenv_lab import inventory

        try:
            main()
        finally:
            inventory.down_all()
