"""What many small tasks cost, by task runner, side by side in one run, and beside what was asked.

Prefect's own thread runner, prefect-dask, `DaskExecutor` (one by one, and with a batch of task runs
in each Dask task) and a plain `client.map` take turns on one cluster of two workers. Each
measurement is made by a process of its own, which plays a fresh kernel, after a first small flow
run that the API has recorded. Prefect's API is on the same machine: a `prefect server start` of
this script's (`own`), or the background one of this package (`background`).

- `speed`: trivial mapped tasks: the whole flow run, the parts of it until the results are there and
  in `map`, and how long after its end the API has each task run as completed;
- `large`: a hundred tasks whose results are 1 MB each, all gathered;
- `taken`: the same, but the results stay on the cluster, where one more task takes them;
- `memory`: what the client grows by, with the futures still held and after the run;
- `curve`: what a task costs among 10, 100, 1,000 and 10,000;
- `route`: through the relay, and straight.

prefect-dask takes minutes, and so does the API to record 10,000 task runs: ask for parts. Run it
with ``python tests/benchmarks/bench_tasks.py 2>/dev/null`` (``--help`` for the parts).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KERNEL = Path(__file__).with_name("task_kernel.py")
RUNNERS = ["client.map", "thread runner", "prefect-dask", "ours", "batch"]
NAMES = {"ours": "`DaskExecutor`", "batch": "`DaskExecutor`, in batches"}
PARTS = ["speed", "large", "taken", "memory", "curve", "route"]
LARGE = 100
LIMIT = 3600.0
"""Seconds for one measurement."""

Told = dict[str, float | None]


class Bench:
    """Takes measurements on one cluster and one API, and keeps them."""

    def __init__(self, target: str, variables: dict[str, str], chosen: argparse.Namespace) -> None:
        self._target = target
        self._variables = variables
        self._chosen = chosen

    def measure(
        self,
        runner: str,
        n: int,
        *,
        case: str = "trivial",
        route: str = "auto",
        weigh: str | None = None,
    ) -> Told:
        """Let a fresh kernel measure once; what it tells is also printed."""
        order = {
            "runner": runner,
            "case": case,
            "n": n,
            "target": self._target,
            "weigh": weigh,
            "route": route,
            "batch": self._chosen.batch,
            "patience": self._chosen.patience,
        }
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(KERNEL), json.dumps(order)],
            env={**os.environ, **self._variables},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{runner}: {done.stderr[-4000:]}")
        told: Told = json.loads(done.stdout.splitlines()[-1])
        print(f"  {runner}, {n} {case}: {told}", flush=True)
        return told

    def compare(self, case: str, n: int) -> None:
        """Print what each task runner needs for the same tasks."""
        told = {r: self.measure(r, n, case=case) for r in RUNNERS if r in self._chosen.runners}
        heads(f"{n} {case} mapped tasks")
        for runner, seen in told.items():
            row(NAMES.get(runner, runner), seen, n)
        asked: list[tuple[str, str, float | None]]
        asked = [("ours", "prefect-dask", 0.05), ("ours", "thread runner", 1.0)]
        asked += [("batch", "client.map", 3.0), ("client.map", "prefect-dask", None)]
        self._ratios([(a, b, told[a], told[b], top) for a, b, top in asked if {a, b} <= set(told)])
        for runner in {"ours", "batch"} & set(told):
            in_map = (told[runner]["submit"] or 0) / n * 1000
            print(f"| in `map`, ms for each: {NAMES[runner]} | {in_map:.2f} | 2 |")

    def memory(self, n: int) -> None:
        """Print by how much the client grows."""
        rows = []
        for runner in (r for r in RUNNERS if r in self._chosen.runners):
            for weigh, what in (("process", "process"), ("objects", "Python objects")):
                seen = self.measure(runner, n, weigh=weigh)
                name = f"{NAMES.get(runner, runner)}, {what}"
                held, left = ((seen[key] or 0) / n for key in ("held", "left"))
                rows.append(f"| {name} | {held:.0f} | {left:.0f} | 5000 |")
        print(f"\n| {n} trivial tasks: bytes for each | held | after the run | asked |")
        print("|---|---|---|---|", *rows, sep="\n", flush=True)

    def curve(self, sizes: list[int]) -> None:
        """Print what a task costs among more and more."""
        told = {n: self.measure("ours", n) for n in sizes}
        heads("`DaskExecutor`: trivial tasks")
        for n, seen in told.items():
            row(str(n), seen, n)

    def route(self, n: int) -> None:
        """Print what the relay costs."""
        told = {route: self.measure("ours", n, route=route) for route in ("direct", "relay")}
        heads(f"{n} trivial mapped tasks")
        for route, seen in told.items():
            row(route, seen, n)
        self._ratios([("relay", "direct", told["relay"], told["direct"], 1.2)])

    def _ratios(self, pairs: list[tuple[str, str, Told, Told, float | None]]) -> None:
        print("\n| wall time | ratio | asked, at most |")
        print("|---|---|---|")
        for a, b, one, other, most in pairs:
            ratio = (one["wall"] or 0) / (other["wall"] or 1)
            asked = "" if most is None else f"{most:g}"
            print(f"| {NAMES.get(a, a)} / {b} | {ratio:.3f} | {asked} |", flush=True)


def heads(title: str) -> None:
    """Print the head of a table of measurements, with times for each task."""
    print(f"\n| {title} | whole flow run | until the results | in `map` | recorded after |")
    print("|---|---|---|---|---|")


def row(name: str, seen: Told, n: int) -> None:
    """Print a measurement."""
    parts = [f"{(seen[key] or 0) / n * 1000:.2f} ms" for key in ("wall", "results", "submit")]
    after = seen.get("recorded")
    late = "not in time" if after is None else f"{after:.0f} s"
    parts.append(late if "recorded" in seen else "")
    print(f"| {name} | {' | '.join(parts)} |", flush=True)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    """Start a `prefect server start`, and give the variables with which kernels find it."""
    import httpx

    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = str(trial.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", port]
    variables = {"PREFECT_HOME": str(folder), "PREFECT_API_URL": url}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit((folder / "log").read_text()[-2000:])
            time.sleep(0.3)
        yield variables
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def background() -> Iterator[dict[str, str]]:
    """Start the API of this package's, which kernels find by its record."""
    from daskenv_lab.flows.api import prefect_api, stop_local_api

    try:
        with prefect_api(lambda told: print(f"  {told}", file=sys.stderr)):
            yield {}
    finally:
        stop_local_api(30)


@contextlib.contextmanager
def cluster(gateway: bool) -> Iterator[str]:
    """Start two workers with one thread each, and give the cluster's address or name."""
    if gateway:
        import daskenv_lab
        from daskenv_lab.inventory import down_all

        try:
            daskenv_lab.up("local", name="bench", n_workers=2)
            yield "bench"
        finally:
            down_all()
        return
    import distributed

    options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(n_workers=2, **options) as local:
        yield local.scheduler_address


def options() -> argparse.Namespace:
    """Read what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--runners", nargs="+", choices=RUNNERS, default=RUNNERS)
    parser.add_argument("--api", nargs="+", choices=["own", "background"], default=["own"])
    parser.add_argument("--tasks", type=int, default=1000, help="trivial ones, and for the memory")
    parser.add_argument("--curve", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--batch", type=int, default=25, help="task runs in each Dask task")
    parser.add_argument(
        "--patience", type=float, default=1800, help="seconds for the API's records"
    )
    parser.add_argument("--gateway", action="store_true", help="on the local Dask Gateway")
    return parser.parse_args()


def main(folder: Path) -> None:
    """Measure in folders of its own, and print the tables."""
    chosen = options()
    for api in chosen.api:
        home = folder / api
        home.mkdir()
        started = server(home) if api == "own" else background()
        with started as variables, cluster(chosen.gateway) as target:
            print(f"\nAPI: {api}; cluster: {'Gateway' if chosen.gateway else 'LocalCluster'}")
            bench = Bench(target, variables, chosen)
            parts = {
                "speed": lambda bench=bench: bench.compare("trivial", chosen.tasks),
                "large": lambda bench=bench: bench.compare("large", min(LARGE, chosen.tasks)),
                "taken": lambda bench=bench: bench.compare("taken", min(LARGE, chosen.tasks)),
                "memory": lambda bench=bench: bench.memory(chosen.tasks),
                "curve": lambda bench=bench: bench.curve(chosen.curve),
                "route": lambda bench=bench: bench.route(chosen.tasks),
            }
            for part in chosen.only:
                parts[part]()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="daskenv-bench-") as where:
        os.environ["DASK_DASKENV__STATE_DIR"] = where
        os.environ["PREFECT_HOME"] = f"{where}/prefect"
        os.environ.pop("PREFECT_API_URL", None)
        main(Path(where))
