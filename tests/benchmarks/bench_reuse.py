"""How long a fresh kernel takes to the first task's result on a cluster that runs already.

Two ways side by side, taking turns, each in a new process with its imports done before the clock
starts: ``daskenv_lab.up`` and a bare ``Gateway.connect`` + ``get_client`` + ``submit``. Then ten
kernels call ``up`` with one new name at once.

Run it with ``python tests/benchmarks/bench_reuse.py``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = 10

OURS = """
import time, daskenv_lab, daskenv_lab.lifecycle, daskenv_lab.providers.local
began = time.perf_counter()
session = daskenv_lab.up("local", name="bench")
assert session.client.submit(len, "abc").result(timeout=30) == 3
print(time.perf_counter() - began)
"""

BARE = """
import json, sys, time, dask_gateway, distributed
from dask_gateway.auth import BasicAuth
address, password, name = json.loads(sys.stdin.read())
began = time.perf_counter()
cluster = dask_gateway.Gateway(address, auth=BasicAuth("daskenv", password)).connect(name)
client = cluster.get_client()
assert client.submit(len, "abc").result(timeout=30) == 3
print(time.perf_counter() - began)
"""

AT_ONCE = """
import daskenv_lab
print(daskenv_lab.up("local", name="at-once", n_workers=1).ref.id)
"""


def start(code: str) -> subprocess.Popen[str]:
    """Start a process that plays a fresh kernel."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], told: str = "") -> str:
    """Wait for such a process, and give the last line that it printed."""
    out, err = process.communicate(told, timeout=300)
    if process.returncode:
        raise SystemExit(err)
    return out.strip().splitlines()[-1]


def main() -> None:
    """Measure in a state folder of its own, and print a table."""
    import json

    import daskenv_lab
    from daskenv_lab.background import read_record
    from daskenv_lab.inventory import down_all
    from daskenv_lab.providers.local import server_folder

    session = daskenv_lab.up("local", name="bench", n_workers=1)
    record = read_record(server_folder() / "server.json")
    secret = json.dumps([record["address"], record["password"], session.ref.id])
    ours, bare = [], []
    try:
        for _ in range(ROUNDS):
            ours.append(float(finish(start(OURS))))
            bare.append(float(finish(start(BARE), secret)))
        began = time.perf_counter()
        ids = [finish(process) for process in [start(AT_ONCE) for _ in range(10)]]
        took = time.perf_counter() - began
    finally:
        down_all()
    print("| from a fresh kernel to the first result | median | least | most |")
    print("|---|---|---|---|")
    for name, seconds in (("`daskenv_lab.up`", ours), ("bare Gateway", bare)):
        row = (statistics.median(seconds), min(seconds), max(seconds))
        print(f"| {name} | {' | '.join(f'{s * 1000:.0f} ms' for s in row)} |")
    print(f"\nratio of the medians: {statistics.median(ours) / statistics.median(bare):.2f}")
    print(f"ten kernels at once: {len(ids)} results, {len(set(ids))} cluster, {took:.1f} s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="daskenv-bench-") as folder:
        os.environ["DASK_DASKENV__STATE_DIR"] = folder
        main()
