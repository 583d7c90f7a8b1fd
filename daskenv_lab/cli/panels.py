"""The verbs that show a cluster: a panel in the notebook, or a page in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daskenv_lab.cli.options import named
from daskenv_lab.errors import CommandError

if TYPE_CHECKING:
    from daskenv_lab.cli.surface import Surface


@click.command()
@named
@click.pass_obj
def panel(surface: Surface, /, name: str | None) -> Any:
    """Show a panel in the notebook: start, watch, scale, run flows, export, take down."""
    if surface.panel is None:
        raise CommandError(
            "a panel is shown in a notebook; `daskenv app` shows the same in the browser"
        )
    return surface.panel(name)


@click.command()
@named
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="By default a free one.")
@click.option("--open/--no-open", "show", default=True, help="Open the browser.")
@click.argument("flows", nargs=-1, metavar="[PATH.py]...")
@click.pass_obj
def app(
    surface: Surface, /, name: str | None, port: int, show: bool, flows: tuple[str, ...]
) -> None:
    """Show the panel as a page in the browser, with plots; Ctrl-C ends it, and no cluster.

    The flows of the files that are named can be run from it.
    """
    from daskenv_lab.app import serve

    serve(name, flows, port=port, show=show, say=surface.say, wait=not surface.notebook)
