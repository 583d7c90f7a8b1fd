"""The view model on the real embedded Gateway: what it shows is what runs, whoever did it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from prefect import flow, task

import daskenv_lab
from daskenv_lab import history, registry
from daskenv_lab.view.call import Call, Named
from daskenv_lab.view.lab import Lab, lab_of
from daskenv_lab.view.preview import preview
from daskenv_lab.view.start import up_call
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@task
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


@flow
def doubled(x: list[int]) -> int:
    """Double numbers and add them up."""
    return sum(double.map(x).result())


@pytest.fixture
def lab(state_dir: Path) -> Iterator[Lab]:
    """Give the view model of a name, watched, whose cluster is gone afterwards."""
    with dask.config.set({"daskenv.panel.interval": "200 ms"}):
        lab = lab_of("viewed")
        end = lab.listen(lambda _: None)
        yield lab
        end()
    if registry.read("viewed") is not None:
        daskenv_lab.down("viewed")


def test_one_truth_through_a_whole_life(lab: Lab, tmp_path: Path) -> None:
    """Start, scale, run, export and down: the panel's own acts and those of others are seen."""
    until(lambda: lab.snapshot.state == "none")
    assert "start one" in lab.snapshot.headline
    heard: list[str] = []
    end = lab.listen(heard.append)
    lab.do("start", up_call("viewed", "local", {"n_workers": 1}), then=lambda s: s.message)
    assert lab.said["start"].busy
    until(lambda: not lab.said["start"].busy)
    assert lab.said["start"].sentence == "Started viewed: 1 worker"
    until(lambda: lab.snapshot.running and lab.snapshot.info.n_workers == 1)
    assert "1 worker, on the embedded Gateway" in lab.snapshot.headline
    assert "costs nothing" in lab.snapshot.headline

    # Somebody else scales; the panel asks for more.
    daskenv_lab.connect("viewed").scale(2)
    until(lambda: lab.snapshot.info.n_workers == 2)
    assert dict(lab.snapshot.facts)["workers"] == "2 workers"

    lab.run(
        Call(
            what="run",
            positional=(Named("doubled", doubled),),
            arguments={"_on": "viewed", "x": list(range(20))},
        )
    )
    assert lab.said["run"].code.startswith("daskenv_lab.run(doubled, _on='viewed', x=[0, 1")
    until(lambda: not lab.said["run"].busy, 300)
    assert "Completed" in lab.said["run"].sentence
    assert "result: 380" in lab.said["run"].sentence
    count = lab.progress.counts["double"]
    assert (count.known, count.over, count.failed) == (20, 20, 0)
    until(lambda: "runs" in heard)
    assert history.last(1, cluster="viewed")[0].flow == "doubled"
    assert lab.trail.points[-1].workers == 2
    assert lab.trail.points[-1].cost == 0.0

    lab.do("preview", preview("viewed", "python"), then=lambda text: text)
    until(lambda: not lab.said["preview"].busy)
    assert "n_workers=2" in lab.said["preview"].sentence
    assert not list(tmp_path.iterdir())

    lab.do("down", Call(what="down", positional=("viewed",)))
    until(lambda: not lab.said["down"].busy)
    until(lambda: lab.snapshot.state == "none")
    assert {"start", "snapshot", "run", "progress", "preview", "down"} <= set(heard)
    end()


def test_what_goes_wrong_is_one_sentence(lab: Lab) -> None:
    """A refused call is told under its control, and a killed scheduler in the first line."""
    lab.do("scale", Call(what="scale", on="viewed", positional=(2,)))
    until(lambda: not lab.said["scale"].busy)
    assert lab.said["scale"].failed
    assert "no cluster is named 'viewed'" in lab.said["scale"].sentence
    session = daskenv_lab.up("local", name="viewed", n_workers=0)
    until(lambda: lab.snapshot.running)
    pid = session.client.run_on_scheduler(os.getpid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: lab.snapshot.state in ("gone", "unreachable"))
    until(lambda: "daskenv up" in lab.snapshot.headline)


def test_a_control_is_busy_until_its_call_ended(lab: Lab) -> None:
    """A second click makes no second call, and a panel that fails does not stop the others."""
    held, made = threading.Event(), []

    class Slow(Call):
        def make(self) -> None:
            made.append(self)
            held.wait(60)

    def faulty(_: str) -> None:
        raise RuntimeError("a panel's own fault")

    end = lab.listen(faulty)
    for _ in range(3):
        lab.do("slow", Slow(what="slow"))
    until(lambda: made)
    held.set()
    until(lambda: not lab.said["slow"].busy)
    assert len(made) == 1
    end()


def test_two_panels_of_a_name_share_the_view_model(state_dir: Path) -> None:
    """And it is looked after only while somebody looks."""
    lab = lab_of("shared")
    assert lab_of("shared") is lab
    ends = [lab.listen(lambda _: None) for _ in range(2)]
    until(lambda: lab.snapshot.state == "none")
    for end in ends:
        end()
    until(lambda: "daskenv-panel-shared" not in [t.name for t in threading.enumerate()])
