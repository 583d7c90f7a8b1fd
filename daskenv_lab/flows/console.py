"""Prefect's log lines on a worker's stderr, where nobody sees colours.

Prefect writes them with rich, which lays each line out and highlights it, and then leaves the
colours away where there is no terminal: a tenth of what a small task run costs its worker.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console

if TYPE_CHECKING:
    from typing import IO


class PlainConsole:
    """Writes lines as they are, in the place of a `rich.console.Console`."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def print(self, line: str, **_: Any) -> None:
        """Write a line."""
        self.file.write(f"{line}\n")
        self.file.flush()


def write_plainly() -> None:
    """Let this process's handlers of Prefect's write plain lines where they show no colours."""
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, PrefectConsoleHandler):
                make_plain(handler)


def make_plain(handler: PrefectConsoleHandler) -> None:
    """Let a handler write plain lines, unless it writes colours or markup."""
    console = handler.console
    # Another version of this package may have been here, whose class is another.
    if not isinstance(console, Console):
        return
    # Workers may be threads of a kernel.
    colours = console.is_terminal or console.is_jupyter
    markup = console.render_str("[b]x[/b]").plain == "x"
    if not colours and not markup:
        handler.console = cast("Any", PlainConsole(console.file))


cloudpickle.register_pickle_by_value(sys.modules[__name__])
