"""``%daskenv``: the verbs in a notebook. Loading it imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.completer import context_matcher
from IPython.core.magic import no_var_expand, output_can_be_silenced

from daskenv_lab import sources

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

NAME = "daskenv"

_AHEAD = 1000.0
"""The priority of our completions; within the magic's line nothing else is of use."""


def register(ipython: InteractiveShell) -> None:
    """Offer ``%daskenv`` and its completion in a shell; doing it twice changes nothing.

    Examples
    --------
    >>> register(get_ipython())  # doctest: +SKIP
    """

    # Braces in a value are a mapping, and not IPython's own substitution, which evaluates.
    @no_var_expand
    @output_can_be_silenced
    def daskenv(line: str) -> Any:
        """Run a verb on a Dask cluster that outlives the notebook; alone, show a short help."""
        from daskenv_lab.cli import main
        from daskenv_lab.cli.surface import Surface
        from daskenv_lab.cli.words import split_line

        # A semicolon at the end keeps IPython from showing what the verb gives.
        arguments = split_line(line.rstrip().removesuffix(";"))
        surface = Surface(ipython.user_ns, panel=_panel, embed=_embed, frontier=_frontier)
        return main.perform(arguments, surface)

    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        if NAME not in context.line_with_cursor:
            return {"completions": []}
        from daskenv_lab.notebook.completion import complete

        return complete(context.text_until_cursor, ipython.user_ns)

    unregister(ipython)
    ipython.magics_manager.register_function(daskenv, "line", NAME)
    mark: Any = context_matcher(identifier=NAME, priority=_AHEAD)
    ipython.Completer.custom_matchers.append(mark(matcher))
    # Later it shows which modules are older than their files.
    sources.note_loaded(first=True)
    ipython.events.register("post_execute", sources.note_loaded)


def _panel(name: str | None) -> Any:
    """Make a panel for a named cluster."""
    from daskenv_lab.notebook.panel import panel

    return panel(name)


def _embed(**traits: Any) -> Any:
    """Make the widget that shows a dashboard."""
    from daskenv_lab.notebook.dashboard import Dashboard

    return Dashboard(**traits)


def _frontier(advice: Any) -> Any:
    """Make the widget that shows what `tune` found."""
    from daskenv_lab.notebook.frontier import Frontier

    return Frontier(advice)


def unregister(ipython: InteractiveShell) -> None:
    """Take ``%daskenv`` and its completion away again; clusters live on."""
    if sources.note_loaded in ipython.events.callbacks["post_execute"]:
        ipython.events.unregister("post_execute", sources.note_loaded)
    ipython.magics_manager.magics["line"].pop(NAME, None)
    matchers = ipython.Completer.custom_matchers
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", None) != NAME]
