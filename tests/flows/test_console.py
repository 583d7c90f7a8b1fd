"""Log lines on a worker's stderr."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prefect import flow, task
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import PREFECT_LOGGING_MARKUP, temporary_settings
from rich.console import Console

from daskenv_lab.flows.console import make_plain

LINES = [
    "Finished in state Completed()",
    "two\nlines of 'text' with 12 and http://127.0.0.1:4200/api",
    "a long one " * 40,
    "[bold]not markup[/bold] [0, 1]",
    "ümlaut, 日本, None True 1.5e-3",
]


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Give a logger of the test's own."""
    made = logging.getLogger("prefect.daskenv-test")
    made.propagate = False
    yield made
    made.handlers.clear()


def written(logger: logging.Logger, handler: PrefectConsoleHandler, *, plainly: bool) -> str:
    """Write the lines, and give what is in the handler's stream then."""
    logger.handlers = [handler]
    if plainly:
        make_plain(handler)
    for line in LINES:
        logger.error(line)
    return str(handler.stream.getvalue())


def test_plain_lines_are_what_rich_writes(logger: logging.Logger) -> None:
    """Where there is no terminal, both write the same text."""
    told = [
        written(logger, PrefectConsoleHandler(io.StringIO()), plainly=plainly)
        for plainly in (False, True)
    ]
    assert told[0] == told[1]
    assert LINES[2] in told[1]


def test_terminals_and_markup_keep_rich(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colours and markup are shown where they can be, and were asked for."""
    with temporary_settings({PREFECT_LOGGING_MARKUP: True}):
        marked = PrefectConsoleHandler(io.StringIO())
    # Its console knows markup, whatever the settings are when it is looked at.
    assert "\nnot markup [0, 1]\n" in written(logger, marked, plainly=True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = PrefectConsoleHandler(io.StringIO())
    make_plain(coloured)
    assert isinstance(coloured.console, Console)
    monkeypatch.delenv("FORCE_COLOR")
    shown = PrefectConsoleHandler(io.StringIO())
    shown.console = Console(file=shown.stream, force_jupyter=True)
    make_plain(shown)
    assert isinstance(shown.console, Console)


@task
def consoles() -> set[str]:
    """Name what writes Prefect's lines in this process."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [handler for logger in known for handler in getattr(logger, "handlers", ())]
    return {type(handler.console).__name__ for handler in handlers if hasattr(handler, "console")}


@flow
def asks() -> set[str]:
    """Ask a worker."""
    return consoles.submit().result()


@pytest.mark.slow
def test_workers_write_plainly(go: Callable[..., Any]) -> None:
    """Nobody sees colours on a worker's stderr."""
    assert go(asks).result == {"PlainConsole"}
