"""What `tune` found, by mouse and keyboard, in a real JupyterLab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daskenv_lab import history
from tests.server.browser import Watched, in_theme, keep, notebook
from tests.tuning.reports import flow_run, task_run, waited

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CELLS = ["%load_ext daskenv_lab", "%daskenv tune --flow pointed_at --running --most 8"]


@pytest.fixture(scope="module")
def lab(state_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Open a notebook that tunes a flow of which one run was kept."""
    runs = [
        task_run(i, 0.5 + i // 2, 0.8 + i % 3 / 10, submitted=0.5, worker=f"w{i % 2}")
        for i in range(30)
    ]
    report = flow_run(
        *runs, waits=(waited(0.5, 15.5, *range(30)),), duration=16.0, flow="pointed_at"
    )
    history.keep(report)
    with notebook(tmp_path_factory.mktemp("lab"), CELLS) as watched:
        yield watched


def test_it_answers_to_pointing(lab: Watched) -> None:
    """A point that is pointed at, or comes into the focus, tells its time, its cost and why."""
    frontier = lab.page.get_by_role("group", name="What pointed_at would take and cost")
    frontier.wait_for()
    said = frontier.get_by_role("status")
    points = frontier.get_by_role("button")
    assert points.count() >= 3
    points.first.hover()
    said.get_by_text("1 worker (cheapest): ").wait_for()
    assert "more workers shorten it" in said.inner_text()
    points.last.focus()
    said.get_by_text("8 workers (fastest): ").wait_for()
    keep(lab.page, "tune", ".daskenv-frontier")


def test_a_size_that_is_chosen_shows_its_run(lab: Watched) -> None:
    """By mouse and by keyboard, below the run as it went."""
    frontier = lab.page.get_by_role("group", name="What pointed_at would take and cost")
    frontier.get_by_role("img", name="As it ran: 30 tasks on 2 workers").wait_for()
    frontier.get_by_role("button").first.click()
    frontier.get_by_role("img", name="As it would run on 1 worker: 30 tasks on 1 work").wait_for()
    frontier.get_by_role("button").last.focus()
    lab.page.keyboard.press("Enter")
    frontier.get_by_role("img", name="As it would run on 8 workers: 30 tasks on 8 work").wait_for()


def test_it_can_be_read_in_the_dark(lab: Watched) -> None:
    """Its writing has the theme's colour; nothing of ours is an error."""
    tick = lab.page.locator(".daskenv-frontier .tick").first
    colours = []
    for theme in ("Light", "Dark"):
        in_theme(lab.page, theme)
        colours.append(tick.evaluate("(node) => getComputedStyle(node).fill"))
    assert colours[0] != colours[1]
    keep(lab.page, "tune-dark", ".daskenv-frontier")
    assert lab.errors_of_ours() == []
