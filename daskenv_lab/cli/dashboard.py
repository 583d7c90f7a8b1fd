"""``dashboard``: where Dask shows what a cluster does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daskenv_lab.cli.options import named
from daskenv_lab.errors import SessionError
from daskenv_lab.server.panes import address_of, word_of

if TYPE_CHECKING:
    from daskenv_lab.cli.surface import Surface


@click.command()
@click.argument("pane", default="status")
@named
@click.pass_obj
def dashboard(surface: Surface, /, pane: str, name: str | None) -> Any:
    """Show Dask's dashboard, or one plot of it: in a notebook, or its address.

    PANE is such as status (the whole), task-stream, progress, workers-memory, cpu or graph.
    """
    pane = word_of(pane)
    session = surface.session(name)
    if session.dashboard_link is None:
        raise SessionError(
            f"the cluster {session.name!r} has no dashboard; install bokeh where its scheduler runs"
        )
    if surface.embed is not None:
        return surface.embed(name=session.name, pane=pane, link=session.dashboard_link)
    surface.say(address_of(session.dashboard_link, pane))
    return None
