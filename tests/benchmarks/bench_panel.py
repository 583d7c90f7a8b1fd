"""What the panel in a notebook costs, beside what was asked: CPU, first paint, and bytes kept.

- `cpu`: the kernel's CPU, in per cent of one core, with the panel open on a cluster of 500 workers
  while thousands of tasks run; beside a kernel that is connected to the same cluster without a
  panel, during the same seconds. The workers and their scheduler are real, in two processes.
- `page`: from the moment a cell is run in JupyterLab, in a Chromium that never loaded a widget, to
  the panel's first line; beside an ``ipywidgets.IntSlider``. They take turns, each in a kernel and
  a browser's profile of its own, after ``%load_ext daskenv_lab``. And by how many bytes each makes
  the saved notebook larger. What else the machine does meanwhile shows here: see the slider's.

Run it with ``python tests/benchmarks/bench_panel.py 2>/dev/null`` (``--help`` for the parts).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import dask

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.panel_cluster import cluster
from tests.benchmarks.panel_kernel import Kernel, loads
from tests.server.jupyter import BASE, TOKEN, Jupyter, serving
from tests.waiting import until

WORKERS = 500
ROUNDS = 3
SETTLE = 15.0
PARTS = ["cpu", "page"]
NAME = "watched"

CONNECTED = f"import daskenv_lab\nsession = daskenv_lab.connect({NAME!r})"
SHOWN = """
points, facts = shown.lab.trail.points, dict(shown.lab.snapshot.facts)
every = (points[-1].at - points[0].at).total_seconds() / (len(points) - 1)
print(f"it looked every {every:.2f} s, and showed {facts['workers']} and {facts['tasks']} tasks")
"""
CELLS = {
    "panel": f"import daskenv_lab\ndaskenv_lab.panel({NAME!r})",
    "IntSlider": "import ipywidgets\nipywidgets.IntSlider()",
}
FIRST_LINE = {"panel": ".daskenv .headline", "IntSlider": ".jp-OutputArea .widget-slider"}
PAINTED = """async (selector) => {
    window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1;
    const began = performance.now();
    void window.jupyterapp.commands.execute("notebook:run-cell");
    return await new Promise((done, failed) => {
        setTimeout(() => failed(new Error(`${selector} is not there after 60 s`)), 60_000);
        const look = () => {
            const found = document.querySelector(selector);
            const shown = found && found.checkVisibility() && found.getClientRects().length;
            requestAnimationFrame(shown ? () => done(performance.now() - began) : look);
        };
        look();
    });
}"""
"""Runs the second cell; gives milliseconds until a frame after the one that lays it out."""

RAN = "(n) => window.jupyterapp.shell.currentWidget.content.widgets[n].model.executionState"


def measure_cpu(seconds: float) -> None:
    """Print the CPU of two kernels side by side, one of which shows the panel."""
    import daskenv_lab

    with cluster(WORKERS, busy=True) as address:
        daskenv_lab.up("remote", name=NAME, address=address).close()
        kernels = {"connected, no panel": Kernel(), "panel open": Kernel()}
        try:
            for kernel in kernels.values():
                kernel.run(CONNECTED)
            kernels["panel open"].run(f"shown = {CELLS['panel'].splitlines()[-1]}\nshown")
            loads({}, SETTLE)
            found = loads(kernels, seconds)
            kernels["panel open"].run(SHOWN)
            shown = until(lambda: kernels["panel open"].printed)
        finally:
            for kernel in kernels.values():
                kernel.close()
    print(f"| kernel, {seconds:.0f} s | CPU of one core | widget messages | sent |")
    print("|---|---|---|---|")
    for name, (cpu, messages, sent) in found.items():
        print(f"| {name} | {cpu:.2f} % | {messages:.1f} /s | {sent / 1000:.1f} kB/s |")
    panel = found["panel open"][0] - found["connected, no panel"][0]
    print(f"\nthe panel: {panel:.2f} % of one core (asked: at most 2 %); {shown}")


def measure_pages(folder: Path) -> None:
    """Print how soon the panel is painted, and what it leaves in the file."""
    import daskenv_lab

    paints: dict[str, list[float]] = {what: [] for what in CELLS}
    kept: dict[str, list[int]] = {what: [] for what in CELLS}
    arguments = (
        "--LabApp.expose_app_in_browser=True",
        "--ServerApp.jpserver_extensions={'panel.io.jupyter_server_extension': False}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    )
    with cluster(2, busy=False) as address:
        daskenv_lab.up("remote", name=NAME, address=address).close()
        with serving(folder, *arguments, app="lab") as server:
            for number in range(ROUNDS):
                for what in CELLS:
                    milliseconds, size = page(server, folder / f"{what}-{number}.ipynb", what)
                    paints[what].append(milliseconds)
                    kept[what].append(size)
    print("| from running the cell to the first line | median | least | most |")
    print("|---|---|---|---|")
    for what, times in paints.items():
        row = (statistics.median(times), min(times), max(times))
        print(f"| {what} | {' | '.join(f'{t:.0f} ms' for t in row)} |")
    ratio = statistics.median(paints["panel"]) / statistics.median(paints["IntSlider"])
    print(f"\nratio of the medians: {ratio:.1f} (asked of the panel: less than 1000 ms)\n")
    for what, sizes in kept.items():
        print(f"{what} in the saved notebook: {max(sizes):,} bytes")
    print("asked of the panel: less than 20,000 bytes")


def page(server: Jupyter, path: Path, what: str) -> tuple[float, int]:
    """Show one widget in a browser and a kernel of its own.

    Returns
    -------
    tuple of float and int
        Milliseconds until it was painted, and the bytes by which the saved file grew.
    """
    from playwright.sync_api import sync_playwright

    cell: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
    }
    cells = [
        {**cell, "id": f"cell-{number}", "source": code}
        for number, code in enumerate(("%load_ext daskenv_lab", CELLS[what]))
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook), encoding="utf-8")
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        try:
            shown = browser.new_page(viewport={"width": 1200, "height": 900})
            shown.set_default_timeout(120_000)
            # A workspace of its own, or the notebooks of the rounds before would be open too.
            lab = f"http://127.0.0.1:{server.port}{BASE}lab/workspaces/{path.stem}"
            shown.goto(f"{lab}/tree/{path.name}?token={TOKEN}")
            shown.wait_for_selector(".jp-Notebook")
            ready = "window.jupyterapp.shell.currentWidget?.sessionContext"
            until(lambda: shown.evaluate(f"!!{ready}"))
            shown.evaluate(f"{ready}.ready.then(() => 1)")
            shown.evaluate("window.jupyterapp.commands.execute('notebook:run-cell').then(() => 1)")
            before = saved(shown, path)
            milliseconds = shown.evaluate(PAINTED, FIRST_LINE[what])
            if what == "panel":
                # What it has to show by then is kept too, if anything is.
                shown.get_by_text("2 workers").first.wait_for()
            until(lambda: shown.evaluate(RAN, 1) == "idle")
            size = saved(shown, path) - before
            if "application/vnd.jupyter.widget-view+json" not in path.read_text("utf-8"):
                raise SystemExit(f"the saved notebook does not hold the {what}")
            return float(milliseconds), size
        finally:
            browser.close()


def saved(shown: Any, path: Path) -> int:
    """Save the notebook as its menu does, and give the file's size."""
    shown.evaluate("window.jupyterapp.commands.execute('docmanager:save').then(() => 1)")
    return path.stat().st_size


def main() -> None:
    """Measure the parts that were asked for, in a state folder of its own."""
    asked = argparse.ArgumentParser(description="What the panel in a notebook costs.")
    asked.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    asked.add_argument("--seconds", type=float, default=60.0, help="how long CPU is measured")
    told = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="daskenv-bench-") as folder:
        state = f"{folder}/state"
        os.environ["DASK_DASKENV__STATE_DIR"] = state
        with dask.config.set({"daskenv.state-dir": state}):
            if "cpu" in told.only:
                measure_cpu(told.seconds)
            if "page" in told.only:
                measure_pages(Path(folder))


if __name__ == "__main__":
    main()
