"""``sync``: declare modules that travel with flows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from daskenv_lab.cli.options import named
from daskenv_lab.errors import CommandError, UnknownNameError

if TYPE_CHECKING:
    from daskenv_lab.cli.surface import Surface


@click.command()
@click.argument("path", required=False)
@click.option("--remove", is_flag=True, help="Take PATH back.")
@named
@click.pass_obj
def sync(surface: Surface, /, path: str | None, remove: bool, name: str | None) -> None:
    """Ship a module, a package or a folder of modules with the flows run from this folder.

    What a flow imports by itself is found without it. Before each run only what changed is sent.
    Without PATH, list what was declared.
    """
    from daskenv_lab.flows.sync import declare, declared, ship, withdraw

    if path is None:
        if remove:
            raise CommandError("--remove needs the path that is taken back; give it")
        paths = declared()
        surface.say("\n".join(map(str, paths)) if paths else "Nothing was declared in this folder")
        return
    if remove:
        surface.say(f"{withdraw(path)} does not travel any more")
        return
    found = declare(path)
    try:
        session = surface.session(name)
    except UnknownNameError:
        if name is not None:
            raise
        surface.say(f"{found} travels with the flows that are run from this folder")
        return
    with surface.waiting() as progress:
        progress(f"Shipping {found}")
        shipped = ship(session.client)
    surface.say("\n".join(shipped.sentences) or f"The workers of {session.name} have {found}")
