"""What a cluster in AWS costs in time and API calls, beside dask-cloudprovider's own, rehearsed.

Four tables, each with both sides in one run on an emulated account whose tasks are real
processes:

- a cold start with realistic delays (network interface 10 s, image 30 s, container 5 s): a
  scheduler and four workers, from nothing to the first result;
- the API calls of a cluster of 50 workers (tasks that only wait), from its start to its end;
- a fresh kernel's way to the first result on a cluster that runs already, without delays;
- what is left after 20 times up and down, 10 of them killed with -9 at a random moment.

dask-cloudprovider's side runs in an image whose scripts have the names that it calls; nothing else
of it is changed. Run it with ``python tests/benchmarks/bench_fargate.py``
(``--help`` for its parts).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SMALL = "worker_cpu=256, worker_mem=1024, scheduler_cpu=256, scheduler_mem=1024"

OURS = """
import time, daskenv_lab, daskenv_lab.lifecycle, daskenv_lab.providers.fargate.provider
began = time.perf_counter()
settings = dict(rehearse=True, n_workers={n}, image="old", {small})
session = daskenv_lab.up("fargate", name="bench", **settings)
assert session.client.submit(len, "abc").result(timeout=120) == 3
print("first", time.perf_counter() - began, flush=True)
session.client.wait_for_workers({n}, timeout=300)
print("all", time.perf_counter() - began, flush=True)
"""
DOWN = """
import daskenv_lab.inventory
daskenv_lab.inventory.down("bench")
"""

THEIRS = """
import os, time, distributed
from dask_cloudprovider.aws import FargateCluster
began = time.perf_counter()
cluster = FargateCluster(n_workers={n}, image="old", {small})
client = distributed.Client(cluster)
assert client.submit(len, "abc").result(timeout=120) == 3
print("first", time.perf_counter() - began, flush=True)
client.wait_for_workers({n}, timeout=300)
print("all", time.perf_counter() - began, flush=True)
client.close()
cluster.close(timeout=120)
print("down", flush=True)
os._exit(0)  # its clean-up at exit fails with "IOLoop is closed"
"""

OUR_TASKS = """
from daskenv_lab import DaskCloudProviderEnvironment
from daskenv_lab.providers import provider_for
settings = dict(rehearse=True, n_workers={n}, image="light", {small})
provider = provider_for(DaskCloudProviderEnvironment("fargate", **settings))
ref = provider.create("many", timeout=300, progress=str, on_submitted=lambda _: None)
provider.shutdown(ref, timeout=120)
"""

THEIR_TASKS = """
import os
from dask_cloudprovider.aws import FargateCluster
cluster = FargateCluster(n_workers={n}, image="light", {small})
cluster.close(timeout=120)
os._exit(0)  # its clean-up at exit fails with "IOLoop is closed"
"""

ONE_TASK = """
import socket, time
from daskenv_lab import DaskCloudProviderEnvironment
from daskenv_lab.providers import provider_for
settings = dict(rehearse=True, n_workers=0, image="old", {small})
environment = DaskCloudProviderEnvironment("fargate", **settings)
provider = provider_for(environment)
began = time.perf_counter()
ref = provider.create("one", timeout=200, progress=str, on_submitted=str)
print("first", time.perf_counter() - began, flush=True)
provider.shutdown(ref, timeout=60)
"""

REUSE = """
import time, daskenv_lab, daskenv_lab.lifecycle, daskenv_lab.providers.fargate.provider
began = time.perf_counter()
session = daskenv_lab.up("fargate", name="bench", rehearse=True)
assert session.client.submit(len, "abc").result(timeout=30) == 3
print("first", time.perf_counter() - began)
"""

CYCLE = """
import daskenv_lab, daskenv_lab.inventory
daskenv_lab.up("fargate", name="bench", rehearse=True, n_workers=1, {small})
daskenv_lab.inventory.down("bench")
"""


def play(code: str, *, n: int = 0, limit: float = 600, **variables: str) -> dict[str, float]:
    """Run code in a process that plays a fresh kernel, and give the times that it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code.format(n=n, small=SMALL)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    words = [line.split() for line in done.stdout.splitlines()]
    return {w[0]: float(w[1]) for w in words if len(w) == 2}


@contextmanager
def account(latency: str) -> Iterator[dict[str, str]]:
    """Start a rehearsal, and give the variables with which any AWS client finds it."""
    from daskenv_lab import rehearsal

    running = rehearsal.start(latency=latency)
    try:
        yield {
            "AWS_ENDPOINT_URL": running.endpoint,
            "AWS_ACCESS_KEY_ID": running.key_id,
            "AWS_SECRET_ACCESS_KEY": running.secret,
            "AWS_DEFAULT_REGION": running.region,
        }
    finally:
        rehearsal.stop(timeout=60)


def cold_start() -> None:
    """Time the way from nothing to the first result, with the delays of a real account."""
    with account("realistic") as theirs:
        single = play(ONE_TASK)["first"]
        print(f"one task {single:.1f} s", flush=True)
        ours = play(OURS, n=4)
        print(f"ours {ours}", flush=True)
        play(DOWN)
        stock = play(THEIRS, n=4, **theirs)
    print("\ncold start: scheduler and 4 workers, realistic delays")
    print(f"  one task, until it answers    {single:6.1f} s")
    print(
        f"  daskenv_lab, first result     {ours['first']:6.1f} s, all workers {ours['all']:.1f} s"
    )
    print(
        f"  dask-cloudprovider, the same  {stock['first']:6.1f} s, all workers {stock['all']:.1f} s"
    )
    print(f"  ours / theirs                 {ours['first'] / stock['first']:6.2f}   (asked: 0.65)")
    print(f"  ours / one task               {ours['first'] / single:6.2f}   (asked: 1.2)")


def api_calls(n: int = 50) -> None:
    """Count the API calls of a cluster without delays, and with those of a real account."""
    for latency in ("none", "realistic"):
        _api_calls(n, latency)


def _api_calls(n: int, latency: str) -> None:
    """Count them, start to end; the workers are tasks that only wait."""
    from daskenv_lab import rehearsal

    counts = {}
    with account(latency) as theirs:
        play(OUR_TASKS, n=1)  # makes the shared set, which is there from then on
        for name, code, variables in (("ours", OUR_TASKS, {}), ("theirs", THEIR_TASKS, theirs)):
            rehearsal.forget_calls()
            play(code, n=n, **variables)
            counts[name] = rehearsal.calls()
    mine, other = (sum(told.values()) for told in counts.values())
    print(f"\nAPI calls: a cluster of {n} workers, start to end, delays: {latency}")
    print(f"  daskenv_lab         {mine:6}")
    print(f"  dask-cloudprovider  {other:6}")
    print(f"  ours / theirs       {mine / other:6.3f}   (asked: 0.2)")
    for name, told in counts.items():
        most = sorted(told.items(), key=lambda item: -item[1])[:6]
        print(f"  {name}: {', '.join(f'{operation} {count}' for operation, count in most)}")


def reuse(rounds: int = 10) -> None:
    """Time a fresh kernel's way to the first result on a cluster that runs."""
    with account("none"):
        cold = play(OURS, n=1)["first"]
        times = [play(REUSE)["first"] for _ in range(rounds)]
        play(DOWN)
    print("\nreuse from a fresh kernel, without delays")
    print(f"  the first start     {cold:6.2f} s")
    print(
        f"  reuse, median of {rounds} {statistics.median(times):6.2f} s "
        f"({min(times):.2f} to {max(times):.2f})   (asked: 1)"
    )


def leftovers(cycles: int = 20) -> None:
    """Go up and down, half of the times killed at a random moment, and count what is left."""
    from daskenv_lab import DaskCloudProviderEnvironment, inventory

    seed = random.randrange(1000)
    chance = random.Random(seed)
    with account("none") as theirs:
        play(CYCLE)
        shared = resources(theirs)
        began = time.perf_counter()
        play(CYCLE)
        whole = time.perf_counter() - began
        for i in range(cycles):
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", CYCLE.format(small=SMALL)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if i % 2:
                time.sleep(chance.uniform(0, whole))
                process.kill()
            process.wait(300)
        inventory.reap(DaskCloudProviderEnvironment("fargate", rehearse=True), idle=0)
        left = {k: v for k, v in resources(theirs).items() if v != shared[k]}
    print(f"\nleft after {cycles} times up and down, {cycles // 2} of them killed (seed {seed})")
    for kind, number in shared.items():
        print(f"  {kind:24} {number} before, {left.get(kind, number)} after")


def resources(variables: dict[str, str]) -> dict[str, int]:
    """Count what there is in the account."""
    import botocore.session

    session = botocore.session.Session()
    session.set_credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"])

    def client(service: str) -> object:
        return session.create_client(
            service, region_name="us-east-1", endpoint_url=variables["AWS_ENDPOINT_URL"]
        )

    def count(service: str, operation: str, key: str, **given: object) -> int:
        pages = client(service).get_paginator(operation).paginate(**given)  # type: ignore[attr-defined]
        return sum(len(page[key]) for page in pages)

    tasks = [
        count("ecs", "list_tasks", "taskArns", cluster=arn, desiredStatus="RUNNING")
        for page in client("ecs").get_paginator("list_clusters").paginate()  # type: ignore[attr-defined]
        for arn in page["clusterArns"]
    ]
    return {
        "running tasks": sum(tasks),
        "secrets": count("secretsmanager", "list_secrets", "SecretList"),
        "roles": count("iam", "list_roles", "Roles"),
        "security groups": count("ec2", "describe_security_groups", "SecurityGroups"),
        "ECS clusters": len(tasks),
        "log groups": count("logs", "describe_log_groups", "logGroups"),
        "task definitions": count("ecs", "list_task_definitions", "taskDefinitionArns"),
    }


def images(folder: Path) -> dict[str, str]:
    """Make an image with distributed's old scripts, and one whose workers only wait."""
    old, light = folder / "old", folder / "light"
    for image in (old, light):
        image.mkdir()
        for name in ("scheduler", "worker"):
            script(
                image / f"dask-{name}",
                f"#!{sys.executable}\n"
                f"from distributed.cli.dask_{name} import main\n"
                "if __name__ == '__main__':\n"
                "    main()\n",
            )
    script(light / "dask-worker", "#!/bin/sh\nexec sleep 1000\n")
    script(
        light / "python",
        '#!/bin/sh\ncase "$*" in *dask_worker*) exec sleep 1000;; esac\n'
        f'exec {sys.executable} "$@"\n',
    )
    return {"old": str(old), "light": str(light)}


def script(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(text)
    path.chmod(0o755)


def main() -> None:
    """Measure in a state folder of its own, and print the tables."""
    tables = {"start": cold_start, "calls": api_calls, "reuse": reuse, "left": leftovers}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=tables, default=list(tables))
    chosen = parser.parse_args().only
    with tempfile.TemporaryDirectory() as scripts:
        os.environ["DASK_DASKENV__REHEARSAL__IMAGES"] = json.dumps(images(Path(scripts)))
        import dask

        dask.config.refresh()
        for name in chosen:
            tables[name]()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DASK_DASKENV__STATE_DIR"] = folder
        main()
