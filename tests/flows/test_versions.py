"""Two versions of this package on one cluster, as after an upgrade while the cluster runs on."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

import daskenv_lab

pytestmark = pytest.mark.timeout(600)

OLDER = "0.0.9"
RENAMED = ("usages", "kilobytes", "install", "knows", "busy", "made_of", "relayed")
"""What workers' objects have by other names in the older version."""

MINE = "def more(x):\n    return x + {more}\n"

LAB = """
import sys
import daskenv_lab
from daskenv_lab.flows.flow_run import run_flow
from mine import more
from prefect import flow, task

@task
def helper(x):
    return more(x)

@task
def one(x):
    return helper(x)

@flow
def total(n):
    return sum(one.map(range(n)).result())

if __name__ == "__main__":
    for line in sys.stdin:
        report = run_flow(total, {"n": int(line)}, on=sys.argv[1], progress=False)
        print(daskenv_lab.__version__, report.result, report.flow_run_id, flush=True)
"""


class Lab:
    """A process that runs a flow whenever it is told to, with a module of its own.

    Parameters
    ----------
    folder : Path
        Where it works; a `daskenv_lab` that is there is the one it uses.
    cluster : LocalCluster
        Where its tasks run.
    route : str
        How they reach the API.
    more : int
        What its module adds to each number.
    """

    def __init__(self, folder: Path, cluster: LocalCluster, route: str, more: int) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "lab.py").write_text(LAB)
        (folder / "mine.py").write_text(MINE.format(more=more))
        self._more = more
        self._process = subprocess.Popen(
            [sys.executable, "lab.py", cluster.scheduler_address],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(folder), os.environ["PYTHONPATH"]]),
                "DASK_DASKENV__PREFECT__ROUTE": route,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, n: int) -> tuple[str, str]:
        """Run `n` tasks; give its version of the package, and the flow run's id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{n}\n")
        self._process.stdin.flush()
        version, total, flow_run_id = self._process.stdout.readline().split()
        assert int(total) == sum(range(n)) + n * self._more
        return version, flow_run_id

    def end(self) -> None:
        """Let it end."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


def older_copy(folder: Path) -> None:
    """Put this package in an older version, whose objects are not like these, into a folder."""
    source = Path(daskenv_lab.__file__).parent
    copy = folder / "daskenv_lab"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    init = (copy / "__init__.py").read_text()
    (copy / "__init__.py").write_text(init.replace(f'"{daskenv_lab.__version__}"', f'"{OLDER}"'))
    names = re.compile(rf"\b({'|'.join(RENAMED)})\b")
    for file in (copy / "flows").rglob("*.py"):
        file.write_text(names.sub(r"\1_once", file.read_text()))


@pytest.mark.parametrize("route", ["direct", "relay"])
def test_a_worker_serves_both(
    own: LocalCluster, api: str, recorded: Callable[..., list[Any]], tmp_path: Path, route: str
) -> None:
    """What a worker keeps of one version is nothing to the other: all tasks are recorded."""
    older_copy(tmp_path / "older")
    with contextlib.ExitStack() as undo:
        older = Lab(tmp_path / "older", own, route, 1)
        undo.callback(older.end)
        newer = Lab(tmp_path / "newer", own, route, 2)
        undo.callback(newer.end)
        for n in (6, 8):
            for lab, version in ((older, OLDER), (newer, daskenv_lab.__version__)):
                used, flow_run_id = lab.run(n)
                assert used == version
                # Each task calls another.
                states = [t.state.name for t in recorded(flow_run_id, 2 * n)]
                assert states == ["Completed"] * 2 * n
