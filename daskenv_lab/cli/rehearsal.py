"""The verbs for the rehearsal: an AWS account on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daskenv_lab.cli.group import Suggesting
from daskenv_lab.cli.options import duration, in_json

if TYPE_CHECKING:
    from daskenv_lab.cli.surface import Surface


@click.group(cls=Suggesting, invoke_without_command=True)
@click.pass_context
def rehearse(ctx: click.Context) -> None:
    """Start, look at and stop an emulated AWS account on this machine."""
    if ctx.invoked_subcommand is None:
        surface: Surface = ctx.obj
        surface.say(ctx.get_help())


@rehearse.command()
@click.option(
    "--latency",
    type=click.Choice(["none", "realistic"]),
    help="How slow it is; by default daskenv.rehearsal.latency.",
)
@click.pass_obj
def start(surface: Surface, /, latency: str | None) -> None:
    """Start the rehearsal, or find the one that runs."""
    from daskenv_lab import rehearsal
    from daskenv_lab.cli.tables import way_in

    with surface.waiting() as progress:
        here = rehearsal.start(latency=latency, progress=progress)
    surface.say(way_in(here))


@rehearse.command()
@in_json
@click.pass_obj
def status(surface: Surface, /, as_json: bool) -> None:
    """Tell the endpoint, region and credentials, for the AWS command line, say."""
    from daskenv_lab import rehearsal
    from daskenv_lab.cli.tables import way_in

    here = rehearsal.status()
    if as_json:
        surface.say_json(here.to_dict() if here else None)
    elif here:
        surface.say(way_in(here))
    else:
        surface.say("No rehearsal runs; start one with `daskenv rehearse start`")


@rehearse.command()
@click.pass_obj
def stop(surface: Surface, /) -> None:
    """Stop the rehearsal, and with it all that runs there."""
    from daskenv_lab import config, rehearsal

    with surface.waiting() as progress:
        progress("Stopping the rehearsal")
        ran = rehearsal.stop(config.seconds("timeouts.stop"))
    surface.say("Stopped the rehearsal" if ran else "No rehearsal was running")


@rehearse.command()
@click.argument("kind", required=False)
@click.option("--operation", metavar="SERVICE:NAME", help="Which calls, such as ecs:RunTask.")
@click.option("--times", type=click.IntRange(min=1), metavar="N", help="How often; else always.")
@click.option("--after", type=click.IntRange(min=0), metavar="N", help="How many pass before.")
@click.option("--seconds", type=duration, help="How long, for slow and hold-.")
@click.option("--image", metavar="PATTERN", help="Which images, for no-image.")
@click.option("--task", metavar="PATTERN", help="Which tasks, for spot.")
@click.option("--capacity-provider", metavar="NAME", help="Which, for no-capacity.")
@click.pass_obj
def order(surface: Surface, /, kind: str | None, **fields: Any) -> None:
    """Order a fault; without KIND, list what can be ordered."""
    from daskenv_lab import rehearsal
    from daskenv_lab.cli.tables import columns

    if kind is None:
        surface.say(columns(("kind", "what happens"), rehearsal.FAULT_KINDS.items()))
        return
    fault = rehearsal.Fault(kind=kind, **{k: v for k, v in fields.items() if v is not None})
    tasks = rehearsal.order(fault)
    surface.say(f"Ordered {kind}" + (f" for {', '.join(tasks)}" if tasks else ""))


@rehearse.command()
@in_json
@click.pass_obj
def faults(surface: Surface, /, as_json: bool) -> None:
    """List the faults that are still ordered."""
    from daskenv_lab import rehearsal

    ordered = rehearsal.faults()
    if as_json:
        surface.say_json([fault.to_dict() for fault in ordered])
        return
    for fault in ordered:
        usual = rehearsal.Fault(kind=fault.kind).to_dict()
        told = [f"{k}={v}" for k, v in fault.to_dict().items() if v != usual[k]]
        told += [] if fault.times else ["until it is cleared"]
        surface.say(f"{fault.kind}: {', '.join(told)}")
    if not ordered:
        surface.say("No fault is ordered")


@rehearse.command()
@click.pass_obj
def clear(surface: Surface, /) -> None:
    """Take back all faults."""
    from daskenv_lab import rehearsal

    rehearsal.clear()
    surface.say("No fault is ordered any more")
