"""``tune``: what other sizes of a cluster would take and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daskenv_lab.cli.options import duration, in_json, named

if TYPE_CHECKING:
    from daskenv_lab.cli.surface import Surface


def _seconds(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    return None if value is None else duration(value)


@click.command()
@click.option("--flow", metavar="NAME", help="By default that of the last run.")
@click.option("--deadline", metavar="TIME", callback=_seconds, help="A run may take so long: 10m.")
@click.option("--budget", type=click.FloatRange(min=0), help="A run may cost so much: 2.00.")
@click.option("--most", type=click.IntRange(min=1), help="At most so many workers.")
@click.option("--startup", metavar="TIME", callback=_seconds, help="A worker takes so long.")
@click.option("--running", is_flag=True, help="On a cluster that is there, as in the lab.")
@click.option("--profile", metavar="WHAT", help="Another profile or kind, such as fargate.")
@named
@in_json
@click.pass_obj
def tune(
    surface: Surface,
    /,
    profile: str | None,
    running: bool,
    name: str | None,
    as_json: bool,
    **wanted: Any,
) -> Any:
    """Say from the last runs of a flow what other sizes would take and cost.

    Nothing is started. Each run is given a cluster of its own, as in production, unless --running.
    """
    from daskenv_lab import advising, registry
    from daskenv_lab.cli.tables import columns
    from daskenv_lab.view import tune as view

    if name is not None:
        registry.known(name)
    advice = advising.tune(name=name, environment=profile, fresh=not running, **wanted)
    if as_json:
        surface.say_json(view.written(advice))
        return None
    surface.say(f"{advice.flow}: {len(advice.frontier)} of {advice.looked_at} clusters stand out")
    surface.say(columns(*view.table(advice)))
    surface.say("\n".join(["", *view.sentences(advice)]))
    return None if surface.frontier is None else surface.frontier(advice)
