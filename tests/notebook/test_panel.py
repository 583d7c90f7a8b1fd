"""The panel's widgets over a real cluster: each control does and shows its Python call."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from jupyter_client.manager import start_new_kernel
from prefect import flow, task

import daskenv_lab
from daskenv_lab import registry
from daskenv_lab.notebook.panel import LabPanel
from daskenv_lab.view.lab import lab_of
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


BOUND = """from prefect import flow
from daskenv_lab import DaskGatewayEnvironment

@flow(task_runner=DaskGatewayEnvironment("local", n_workers=1).task_runner())
def bound() -> None:
    pass
"""


@task
def twice(x: int) -> int:
    """Double a number."""
    return 2 * x


@flow
def twice_each(x: list[int], n: int = 1) -> int:
    """Double numbers, add them up, and multiply by `n`."""
    return sum(twice.map(x).result()) * n


@pytest.fixture
def panel(state_dir: Path) -> Iterator[LabPanel]:
    """Give a panel for a name that nobody uses, and take its cluster down afterwards."""
    with dask.config.set({"daskenv.panel.interval": "200 ms"}):
        made = LabPanel(lab_of("panelled"), {"twice_each": twice_each})
        yield made
        made.close()
    if registry.read("panelled") is not None:
        daskenv_lab.down("panelled")


def shown(widget: Any) -> str:
    """Give the text of an HTML widget."""
    return html.unescape(re.sub("<[^>]*>", " ", widget.value))


def ask(panel: LabPanel, control: str, **values: object) -> None:
    """Send what the browser sends where our Jupyter Server extension is not."""
    told = {"method": "custom", "content": {"make": control, "values": values}}
    panel.cluster.controls._handle_msg({"content": {"data": told}, "buffers": []})


def test_a_newcomer_clicks_through(panel: LabPanel, tmp_path: Path) -> None:
    """Start, scale, fill in the form, run, compare, preview, write, and take down."""
    until(lambda: "start one" in shown(panel.headline))
    panel.start.size.workers.value = 1
    assert "up('local', name='panelled', n_workers=1)" in shown(panel.start.button._code)
    panel.start.button.button.click()
    until(lambda: "1 worker, on the embedded Gateway" in shown(panel.headline))
    assert panel.tabs.selected_index == 1
    until(lambda: "Started panelled" in shown(panel.start.button._outcome))

    rows = {row["control"]: row for row in panel.cluster.controls.actions}
    assert rows["scale"]["code"] == "daskenv_lab.connect('panelled').scale({n})"
    ask(panel, "scale", n=2)
    until(lambda: "2 workers" in shown(panel.cluster.facts))
    until(lambda: panel.cluster.controls.said["scale"]["sentence"] == "Asked for.")
    assert "tls://" in panel.cluster.workers.value

    panel.flows.look_for_flows()
    assert panel.flows.flow.options == ("twice_each",)
    x, problem = panel.flows._fields["x"]
    assert "x is needed" in shown(problem)
    x.value = "[1, 'two']"
    assert "x[1]: input should be a valid integer" in shown(problem)
    panel.flows.button.button.click()
    assert "fill in the fields" in shown(panel.flows.button._outcome)
    for typed in ("[1, 2, 3]", "[1, 2, 3, 4]"):
        x.value = typed
        assert f"run(twice_each, _on='panelled', x={typed}, n=1)" in shown(panel.flows.button._code)
        panel.flows.button.button.click()
        until(lambda: not panel.lab.said["run"].busy, 300)
    assert "result: 20" in shown(panel.flows.button._outcome)
    (bar,) = panel.flows.progress._bars.values()
    assert (bar.value, bar.max, bar.description) == (4, 4, "twice: 4 of 4")
    until(lambda: shown(panel.runs.table).count("twice-each") == 2)
    assert "+33%" in shown(panel.runs.compared)

    panel.export.controls[0].button.click()
    until(lambda: "n_workers=2" in shown(panel.export.preview))
    panel.export.path.value = str(tmp_path / "environment.py")
    panel.export.controls[1].button.click()
    until(lambda: (tmp_path / "environment.py").exists())
    panel.export.format.value = "prefect"
    assert "say where the flow is, as flows.py:etl" in shown(panel.export.controls[1]._code)
    (tmp_path / "bound.py").write_text(BOUND)
    panel.export.entrypoint.value = f"{tmp_path / 'bound.py'}:bound"
    panel.export.path.value = str(tmp_path / "prefect.yaml")
    panel.export.controls[0].button.click()
    until(lambda: "work_pool" in shown(panel.export.preview))
    panel.export.controls[1].button.click()
    until(lambda: (tmp_path / "prefect.yaml").exists(), 60)

    second = LabPanel(panel.lab, {"twice_each": twice_each})
    assert second.headline.value == panel.headline.value
    assert second.tabs.selected_index == 1
    assert second.runs.table.value == panel.runs.table.value
    assert shown(second.flows.button._outcome) == shown(panel.flows.button._outcome)
    second.close()

    panel.logs.button.button.click()
    until(lambda: "scheduler" in shown(panel.logs.lines))

    ask(panel, "down")
    until(lambda: "start one" in shown(panel.headline))
    assert registry.read("panelled") is None


def test_what_jupyter_server_did_is_shown_in_all_panels(panel: LabPanel) -> None:
    """The browser tells what came of its request, and what is no number of workers is refused."""
    second = LabPanel(panel.lab, {})
    told = {"said": "scale", "sentence": "no cluster is named 'panelled'.", "failed": True}
    data = {"method": "custom", "content": told}
    panel.cluster.controls._handle_msg({"content": {"data": data}, "buffers": []})
    shown_there = second.cluster.controls.said["scale"]
    assert shown_there == {"sentence": told["sentence"], "busy": False, "failed": True}
    panel.start.button.button.click()
    until(lambda: "Started panelled" in shown(panel.start.button._outcome))
    ask(panel, "scale", n="many")
    until(lambda: "many" in panel.lab.said["scale"].sentence and panel.lab.said["scale"].failed)
    second.close()


def test_hostile_words_are_shown_and_not_read_as_html(panel: LabPanel) -> None:
    """A name, an error or a log line may hold anything."""
    panel.lab.say("start", "<img src=x onerror=alert(1)>", failed=True)
    assert "&lt;img" in panel.start.button._outcome.value
    assert "<img" not in panel.start.button._outcome.value


def test_fargate_offers_sizes_that_exist(panel: LabPanel) -> None:
    """Another CPU offers other memory sizes, and the call follows."""
    panel.start.what.value = "fargate"
    panel.start._choices["worker_cpu"][1].value = 256
    memory = panel.start._choices["worker_mem"][1]
    assert [label for label, _ in memory.options] == ["0.5 GB", "1 GB", "2 GB"]
    memory.value = 1024
    call = shown(panel.start.button._code)
    assert "worker_cpu=256, worker_mem=1024, rehearse=True" in call


def test_showing_it_imports_nothing_heavy() -> None:
    """The first paint waits for neither Dask's client nor Prefect."""
    program = (
        "import sys; from daskenv_lab.notebook.panel.frame import LabPanel;"
        "from daskenv_lab.view.lab import Lab; Lab._watch = lambda self: None;"
        "LabPanel(Lab('dev'), {});"
        "print([m for m in ('distributed', 'prefect', 'botocore') if m in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert told.stdout.strip() == "[]"


def test_a_cell_that_runs_again_shows_one_panel(state_dir: Path) -> None:
    """The panel that it showed before listens to nothing any more, and its widgets are gone."""
    manager, kernel = start_new_kernel()
    try:
        told = [_run(kernel, cell, PANEL) for cell in ("one", "one", "one", "two", "two")]
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel()
    listeners, widgets_there = zip(*told, strict=True)
    assert listeners == (1, 1, 1, 2, 2)
    assert widgets_there[2] == widgets_there[0]


PANEL = """import daskenv_lab, ipywidgets
from daskenv_lab.view.lab import lab_of
daskenv_lab.panel("again")
print(len(lab_of("again")._listeners), len(ipywidgets.widgets.widget._instances))"""


def _run(kernel: Any, cell: str, code: str) -> tuple[int, int]:
    """Run code as JupyterLab runs a cell, and read the two numbers that it prints."""
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    sent = kernel.session.msg("execute_request", content, metadata={"cellId": cell})
    kernel.shell_channel.send(sent)
    printed = ""
    while True:
        heard = kernel.get_iopub_msg(timeout=120)
        if heard["parent_header"].get("msg_id") != sent["header"]["msg_id"]:
            continue
        if heard["msg_type"] == "stream":
            printed += heard["content"]["text"]
        if heard["msg_type"] == "status" and heard["content"]["execution_state"] == "idle":
            listeners, there = printed.split()
            return int(listeners), int(there)
