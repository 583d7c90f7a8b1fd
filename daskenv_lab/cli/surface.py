"""Where a verb shows what it has to say: a terminal, a pipe or a notebook."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from daskenv_lab.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from daskenv_lab.session import Session


@dataclass(frozen=True, slots=True)
class Surface:
    """Where a verb was typed, and so where its answer belongs.

    Parameters
    ----------
    namespace : mapping, optional
        The notebook's variables; None at a command line.
    panel : callable, optional
        Makes a panel for the cluster that has a name.
    embed : callable, optional
        Makes what shows a cluster's dashboard in a cell, from its name, a pane and the link.
    frontier : callable, optional
        Makes what shows in a cell what `tune` found.
    """

    namespace: Mapping[str, Any] | None = None
    panel: Callable[[str | None], Any] | None = None
    embed: Callable[..., Any] | None = None
    frontier: Callable[[Any], Any] | None = None

    @property
    def notebook(self) -> bool:
        """Whether the verb is a magic's."""
        return self.namespace is not None

    def say(self, text: str) -> None:
        """Show an answer."""
        click.echo(text, file=sys.stdout)

    def say_json(self, answer: Any) -> None:
        """Show an answer as JSON alone."""
        self.say(json.dumps(_finite(answer), indent=2, default=str))

    def warn(self, text: str) -> None:
        """Show what is no answer."""
        click.echo(text, file=sys.stderr)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[Waiting]:
        """Give a place to say what is being waited for."""
        # A notebook paints everything on stderr red.
        stream = sys.stdout if self.notebook else sys.stderr
        waiting = Waiting(stream, updating=self.notebook or stream.isatty())
        with warnings.catch_warnings():
            warnings.showwarning = _below(waiting, warnings.showwarning)
            try:
                yield waiting
            finally:
                waiting.clear()

    @property
    def can_ask(self) -> bool:
        """Whether somebody sits before a terminal and can answer a question."""
        return not self.notebook and sys.stdin.isatty() and sys.stderr.isatty()

    def ask(self, question: str) -> bool:
        """Ask for a yes or no."""
        return click.confirm(question, err=True)

    def session(self, name: str | None) -> Session:
        """Give the named session, or the one used last in this process, connected."""
        from daskenv_lab import lifecycle, session

        last = session.current()
        if last is not None and last.connection.open and name in (None, last.name):
            return last
        return self.hold(lifecycle.connect(name or (last.name if last else None)))

    def hold(self, session: Session) -> Session:
        """Keep a session open in a notebook; at a command line, close it after the verb."""
        if not self.notebook:
            click.get_current_context().call_on_close(session.close)
        return session


def _below(waiting: Waiting, show: Callable[..., None]) -> Callable[..., None]:
    """Let a warning begin on a line of its own, and not behind what is waited for."""

    def shown(*args: Any, **kwargs: Any) -> None:
        waiting.clear()
        show(*args, **kwargs)

    return shown


def _finite(answer: Any) -> Any:
    """Replace the numbers that JSON does not have by their names."""
    if isinstance(answer, float) and not math.isfinite(answer):
        return str(answer)
    if isinstance(answer, dict):
        return {k: _finite(v) for k, v in answer.items()}
    return [_finite(v) for v in answer] if isinstance(answer, list | tuple) else answer
