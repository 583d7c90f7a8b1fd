"""Each verb: parse, call one public function, show what came of it."""

from __future__ import annotations

import contextlib
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from daskenv_lab import __version__
from daskenv_lab.cli.account import bootstrap, doctor
from daskenv_lab.cli.dashboard import dashboard
from daskenv_lab.cli.export import export
from daskenv_lab.cli.group import Verbs
from daskenv_lab.cli.options import duration, in_json, named, rehearsing
from daskenv_lab.cli.packages import packages
from daskenv_lab.cli.panels import app, panel
from daskenv_lab.cli.register import register
from daskenv_lab.cli.rehearsal import rehearse
from daskenv_lab.cli.surface import Surface
from daskenv_lab.cli.sync import sync
from daskenv_lab.cli.tune import tune
from daskenv_lab.cli.up import up
from daskenv_lab.cli.words import assignments
from daskenv_lab.errors import CommandError, DaskEnvLabError

if TYPE_CHECKING:
    from daskenv_lab.environments import Environment
    from daskenv_lab.report import FlowRunReport


@click.group(cls=Verbs, invoke_without_command=True)
@click.option("--debug", is_flag=True, help="Show whole tracebacks.")
@click.version_option(__version__, prog_name="daskenv")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Dask clusters that outlive notebooks, and Prefect flows that run on them."""
    surface = ctx.ensure_object(Surface)
    # What was said for one verb must not stay on for the next one of a notebook.
    DaskEnvLabError.show_traceback = debug
    if ctx.invoked_subcommand is None:
        surface.say(ctx.get_help())
        return
    from daskenv_lab import config

    DaskEnvLabError.show_traceback = debug or config.flag("debug")


main.add_command(up)


@main.command()
@click.argument("flow")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--on", "name", metavar="NAME", help="The cluster, by its name or address.")
@in_json
@click.pass_context
def run(
    ctx: click.Context, flow: str, parameters: tuple[str, ...], name: str | None, as_json: bool
) -> FlowRunReport | None:
    """Run a flow on a cluster, and report.

    FLOW is a flow of the notebook, PATH.py:FLOW or MODULE:FLOW. A value is a Python literal, or
    else text.
    """
    surface = ctx.ensure_object(Surface)
    given = assignments(parameters, noun="parameter")
    # What the flow itself prints must not end up in the JSON.
    aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    with aside:
        report = _run(surface, flow, given, name)
    if as_json:
        surface.say_json(report.to_dict())
    else:
        from daskenv_lab.cli.tables import outcome, summary

        surface.say(outcome(report) if surface.notebook else summary(report))
    if not report.ok and not surface.notebook:
        ctx.exit(1)
    return report if surface.notebook and not as_json else None


def _run(surface: Surface, spec: str, given: dict[str, Any], name: str | None) -> FlowRunReport:
    from daskenv_lab.flows.flow_run import run_flow
    from daskenv_lab.flows.loading import load_flow

    flow = load_flow(spec, surface.namespace)
    on = name if name and ":" in name else surface.session(name)
    return run_flow(flow, given, on=on)


@main.command()
@click.argument("n", type=click.IntRange(min=0))
@named
@click.pass_obj
def scale(surface: Surface, /, n: int, name: str | None) -> None:
    """Ask for N workers, and end adaptive scaling."""
    session = surface.session(name)
    session.scale(n)
    surface.say(f"{session.name}: asked for {n} {'worker' if n == 1 else 'workers'}")


@main.command()
@click.argument("minimum", metavar="MIN", type=click.IntRange(min=0))
@click.argument("maximum", metavar="MAX", type=click.IntRange(min=1))
@named
@click.pass_obj
def adapt(surface: Surface, /, minimum: int, maximum: int, name: str | None) -> None:
    """Let the number of workers follow the load, from MIN to MAX."""
    session = surface.session(name)
    session.adapt(minimum, maximum)
    surface.say(f"{session.name}: from {minimum} to {maximum} workers, as the load asks")


@main.command()
@click.argument("name", required=False)
@in_json
@click.pass_obj
def status(surface: Surface, /, name: str | None, as_json: bool) -> None:
    """Tell how a cluster is."""
    info = surface.session(name).info()
    if as_json:
        surface.say_json(info.to_dict())
    else:
        from daskenv_lab.cli.tables import status as shown

        surface.say(shown(info))


def _name_and_duration(
    _: click.Context, __: click.Parameter, words: tuple[str, ...]
) -> tuple[str | None, float]:
    """Read a duration, and the name before it if there is one."""
    *names, last = words
    if len(names) > 1:
        raise click.BadParameter(
            f"{' '.join(words)!r} is more than a name and a duration; quote a duration with "
            "blanks, as in '2 hours'"
        )
    return names[0] if names else None, duration(last)


# Click itself cannot leave out the first of two arguments.
@main.command(name="keep-alive")
@click.argument(
    "kept", nargs=-1, required=True, metavar="[NAME] DURATION", callback=_name_and_duration
)
@click.pass_obj
def keep_alive(surface: Surface, /, kept: tuple[str | None, float]) -> None:
    """Let a cluster not end by itself for a while, whether it is used or not.

    DURATION is such as 90, 30m or "2 hours".
    """
    name, seconds = kept
    session = surface.session(name)
    left = session.keep_alive(seconds)
    if left is None:
        surface.say(f"{session.name} never ends by itself")
        return
    until = datetime.now().astimezone() + timedelta(seconds=left)
    surface.say(f"{session.name} lives until {until:%Y-%m-%d %H:%M} at least")


@main.command()
@click.argument("what", required=False)
@rehearsing
@in_json
@click.pass_obj
def ls(surface: Surface, /, what: str | None, rehearse: bool, as_json: bool) -> None:
    """List our clusters, and others at the same providers.

    WHAT is a further profile or kind, whose provider is asked too.
    """
    from daskenv_lab import inventory

    infos = inventory.ls(_place(what, rehearse=rehearse))
    if as_json:
        surface.say_json([info.to_dict() for info in infos])
    else:
        from daskenv_lab.cli.tables import listing

        surface.say(listing(infos))


@main.command()
@click.option("--lines", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--worker", metavar="ADDRESS", help="Only that worker's, by name or address.")
@click.option("-f", "--follow", is_flag=True, help="Go on, until the end or Ctrl-C.")
@named
@click.pass_obj
def logs(
    surface: Surface, /, lines: int, worker: str | None, follow: bool, name: str | None
) -> None:
    """Show the last lines of the scheduler's and the workers' logs, or follow them."""
    session = surface.session(name)
    if not follow:
        for who, said in session.logs(lines=lines, worker=worker).items():
            surface.say(f"--- {who}\n{said.rstrip()}")
        return
    with contextlib.suppress(KeyboardInterrupt):
        for who, line in session.follow_logs(lines=lines, worker=worker):
            surface.say(f"{who}: {line}")


@main.command()
@click.argument("name", required=False)
@click.pass_obj
def detach(surface: Surface, /, name: str | None) -> None:
    """Let go of a cluster: it lives on, and `reap` may remove it once it is idle."""
    from daskenv_lab import inventory

    chosen = _chosen(name)
    inventory.detach(chosen)
    surface.say(f"Let go of {chosen}; it lives on until `daskenv reap` finds it idle")


@main.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="All clusters, and what runs behind them.")
@click.option("--timeout", type=duration, help="How long a cluster may take to be gone.")
@click.pass_obj
def down(surface: Surface, /, name: str | None, everything: bool, timeout: float | None) -> None:
    """Destroy a cluster, or all of them."""
    from daskenv_lab import inventory

    if everything:
        if name is not None:
            raise CommandError(f"down was given both {name!r} and --all; give one of the two")
        with surface.waiting() as progress:
            progress("Stopping all clusters and the servers behind them")
            stopped = inventory.down_all(timeout=timeout)
        surface.say(f"Stopped {', '.join(stopped)}" if stopped else "Nothing was running")
        return
    chosen = _chosen(name)
    with surface.waiting() as progress:
        progress(f"Stopping {chosen}")
        inventory.down(chosen, timeout=timeout)
    surface.say(f"Stopped {chosen}")


@main.command()
@click.argument("what", required=False)
@click.option("--idle", type=duration, help="Only what was idle so long; 10 minutes by default.")
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@rehearsing
@click.pass_obj
def reap(
    surface: Surface, /, what: str | None, idle: float | None, dry_run: bool, rehearse: bool
) -> None:
    """Remove the clusters that nobody holds.

    WHAT is a further profile or kind, whose provider is asked too.
    """
    from daskenv_lab import inventory
    from daskenv_lab.cli.tables import listing

    infos = inventory.reap(_place(what, rehearse=rehearse), idle=idle, dry_run=dry_run)
    if not infos:
        surface.say("Nothing to remove")
        return
    surface.say("Would remove:" if dry_run else "Removed:")
    surface.say(listing(infos))


main.add_command(panel)
main.add_command(app)
main.add_command(dashboard)
main.add_command(export)
main.add_command(register)
main.add_command(sync)
main.add_command(packages)
main.add_command(tune)
main.add_command(bootstrap)
main.add_command(doctor)
main.add_command(rehearse)


@main.command()
@click.pass_obj
def profiles(surface: Surface, /) -> None:
    """List the profiles and kinds that `up` knows."""
    from daskenv_lab import config
    from daskenv_lab.cli.tables import columns
    from daskenv_lab.environments.secret import conceal, mask

    rows = []
    for name in config.profile_names():
        kind, settings = config.profile(name)
        shown = ", ".join(f"{k}={v!r}" for k, v in conceal(settings).items())
        rows.append((name, kind, mask(shown) or "-"))
    surface.say(columns(("name", "kind", "settings"), rows))


@main.command()
@click.pass_obj
def demo(surface: Surface, /) -> None:
    """Play the whole story here, on two flows."""
    from daskenv_lab import demo as story

    with surface.waiting() as progress:
        story.play(progress)


@main.command()
@click.pass_context
def lab(ctx: click.Context) -> None:
    """Open JupyterLab on the quickstart notebook."""
    from daskenv_lab import demo as story

    ctx.exit(story.open_lab())


def _chosen(name: str | None) -> str:
    from daskenv_lab import config, session

    last = session.current()
    return last.name if name is None and last is not None else config.cluster_name(name)


def _place(what: str | None, *, rehearse: bool) -> str | Environment | None:
    """Say where else to look."""
    from daskenv_lab import accounts

    return accounts.in_aws(what, rehearse=True, asked="--rehearse") if rehearse else what
