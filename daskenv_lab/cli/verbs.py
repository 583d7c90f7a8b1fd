"""Each verb: parse, call one public function, show what came of it."""

from __future__ import annotations

import contextlib
import math
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from daskenv_lab import __version__
from daskenv_lab.cli.group import Verbs
from daskenv_lab.cli.surface import Surface
from daskenv_lab.cli.words import assignments
from daskenv_lab.errors import CommandError, DaskEnvLabError

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskenv_lab.report import FlowRunReport
    from daskenv_lab.session import Session

_F = TypeVar("_F", bound="Callable[..., Any]")


def duration(value: str) -> float:
    """Read a time such as ``30m`` or ``90``, in seconds.

    Raises
    ------
    click.BadParameter
        It is none.

    Examples
    --------
    >>> duration("30m"), duration("90")
    (1800.0, 90.0)
    """
    from dask.utils import parse_timedelta

    try:
        seconds = float(parse_timedelta(value, default="s"))
    except (TypeError, ValueError, KeyError, AttributeError):
        seconds = -1.0
    if not math.isfinite(seconds) or seconds < 0:
        raise click.BadParameter(f"{value!r} is no duration; write it as 90, '30m' or '2 hours'")
    return seconds


def _named(verb: _F) -> _F:
    say = "The cluster; by default the one used last here, else daskenv.name."
    return click.option("--name", metavar="NAME", help=say)(verb)


def _json(verb: _F) -> _F:
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON alone.")(verb)


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


@main.command()
@click.argument("what", required=False)
@click.option("--name", metavar="NAME", help="The cluster's name; by default daskenv.name.")
@click.option("--workers", type=int, metavar="N", help="A fixed number of workers.")
@click.option("--min", "minimum", type=int, metavar="N", help="Least number of workers.")
@click.option("--max", "maximum", type=int, metavar="N", help="Greatest number of workers.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="A further setting.")
@click.option("--replace", is_flag=True, help="Replace a cluster that has other settings.")
@click.option("--timeout", type=duration, help="How long a new cluster may take to start.")
@click.pass_obj
def up(
    surface: Surface,
    /,
    what: str | None,
    name: str | None,
    options: tuple[str, ...],
    replace: bool,
    timeout: float | None,
    **sizes: int | None,
) -> None:
    """Start a cluster, or reuse the one that has the name.

    WHAT is a profile, a kind (local, gateway, fargate, ecs, remote) or a cluster class's path.
    """
    from daskenv_lab import lifecycle
    from daskenv_lab.settings import table

    words = {"workers": "n_workers", "minimum": "adaptive_min_workers"}
    words["maximum"] = "adaptive_max_workers"
    given = assignments(options, noun="option")
    given |= {words[size]: n for size, n in sizes.items() if n is not None}
    if "what" in given:
        raise CommandError("no setting is named 'what'; give the profile or kind itself after up")
    environment = lifecycle.environment_for(what, **given)
    with surface.waiting() as progress:
        session = lifecycle.up(
            environment, name=name, replace=replace, timeout=timeout, progress=progress
        )
    surface.hold(session)
    surface.say(session.message)
    if session.changes:
        surface.say(table(session.changes))
    if session.dashboard_link:
        surface.say(f"Dashboard: {session.dashboard_link}")


@main.command()
@click.argument("flow")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--on", "name", metavar="NAME", help="The cluster, by its name or address.")
@_json
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
    on = name if name and ":" in name else _session(surface, name)
    return run_flow(flow, given, on=on)


@main.command()
@click.argument("n", type=click.IntRange(min=0))
@_named
@click.pass_obj
def scale(surface: Surface, /, n: int, name: str | None) -> None:
    """Ask for N workers, and end adaptive scaling."""
    session = _session(surface, name)
    session.scale(n)
    surface.say(f"{session.name}: asked for {n} {'worker' if n == 1 else 'workers'}")


@main.command()
@click.argument("minimum", metavar="MIN", type=click.IntRange(min=0))
@click.argument("maximum", metavar="MAX", type=click.IntRange(min=1))
@_named
@click.pass_obj
def adapt(surface: Surface, /, minimum: int, maximum: int, name: str | None) -> None:
    """Let the number of workers follow the load, from MIN to MAX."""
    session = _session(surface, name)
    session.adapt(minimum, maximum)
    surface.say(f"{session.name}: from {minimum} to {maximum} workers, as the load asks")


@main.command()
@click.argument("name", required=False)
@_json
@click.pass_obj
def status(surface: Surface, /, name: str | None, as_json: bool) -> None:
    """Tell how a cluster is."""
    info = _session(surface, name).info()
    if as_json:
        surface.say_json(info.to_dict())
    else:
        from daskenv_lab.cli.tables import status as shown

        surface.say(shown(info))


@main.command()
@_json
@click.pass_obj
def ls(surface: Surface, /, as_json: bool) -> None:
    """List our clusters, and others at the same providers."""
    from daskenv_lab import inventory

    infos = inventory.ls()
    if as_json:
        surface.say_json([info.to_dict() for info in infos])
    else:
        from daskenv_lab.cli.tables import listing

        surface.say(listing(infos))


@main.command()
@click.option("--lines", type=click.IntRange(min=1), default=50, show_default=True)
@_named
@click.pass_obj
def logs(surface: Surface, /, lines: int, name: str | None) -> None:
    """Show the last lines of the scheduler's and the workers' logs."""
    for who, said in _session(surface, name).logs(lines=lines).items():
        surface.say(f"--- {who}\n{said.rstrip()}")


@main.command()
@click.argument("path", default="environment.py")
@click.option("--overwrite", is_flag=True, help="Replace the file, whatever it is.")
@_named
@click.pass_obj
def export(surface: Surface, /, path: str, overwrite: bool, name: str | None) -> None:
    """Write a cluster's settings down as a Python module."""
    written = _session(surface, name).export(path, overwrite=overwrite)
    surface.say(f"Wrote {written}")


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
@click.option("--idle", type=duration, help="Only what was idle so long; 10 minutes by default.")
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@click.pass_obj
def reap(surface: Surface, /, idle: float | None, dry_run: bool) -> None:
    """Remove the clusters that nobody holds."""
    from daskenv_lab import inventory
    from daskenv_lab.cli.tables import listing

    infos = inventory.reap(idle=idle, dry_run=dry_run)
    if not infos:
        surface.say("Nothing to remove")
        return
    surface.say("Would remove:" if dry_run else "Removed:")
    surface.say(listing(infos))


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


def _session(surface: Surface, name: str | None) -> Session:
    """Give the named session, or the one used last in this process, connected."""
    from daskenv_lab import lifecycle, session

    last = session.current()
    if last is not None and last.connection.open and name in (None, last.name):
        return last
    return surface.hold(lifecycle.connect(name or (last.name if last else None)))


def _chosen(name: str | None) -> str:
    from daskenv_lab import config, session

    last = session.current()
    return last.name if name is None and last is not None else config.cluster_name(name)
