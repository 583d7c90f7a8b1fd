"""The verb that compares packages here with those of a cluster, and installs what is missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from daskenv_lab.cli.options import in_json, named

if TYPE_CHECKING:
    from daskenv_lab.cli.surface import Surface
    from daskenv_lab.packages.install import Plan
    from daskenv_lab.packages.report import PackageReport
    from daskenv_lab.session import Session


@click.command()
@click.argument("flow", required=False)
@click.option("--install", is_flag=True, help="Install missing pure packages on the workers.")
@named
@in_json
@click.pass_context
def packages(
    ctx: click.Context, /, flow: str | None, install: bool, name: str | None, as_json: bool
) -> None:
    """Compare packages here, on the scheduler and on the workers.

    FLOW is as for run: what it imports counts too. In a notebook without it, all flows there
    count. What is installed goes with the workers.
    """
    surface: Surface = ctx.obj
    flows = [_flow(surface, flow)] if flow else known_flows(surface)
    session = surface.session(name)
    report = session.packages(*flows)
    said = None
    if install or (report.missing and surface.can_ask and not as_json):
        report, said = _installed(surface, session, report, flows, asked=install)
    if as_json:
        surface.say_json(report.to_dict())
    else:
        _say(surface, session, report, said)
    if any(trouble.weight == "bad" for trouble in report.troubles):
        ctx.exit(1)


def known_flows(surface: Surface) -> list[Any]:
    """Give the notebook's flows. Where there is one, Prefect has been imported."""
    prefect = sys.modules.get("prefect.flows")
    if prefect is None or surface.namespace is None:
        return []
    named = [v for n, v in surface.namespace.items() if not n.startswith("_")]
    return [v for v in named if isinstance(v, prefect.Flow)]


def _flow(surface: Surface, word: str) -> Any:
    from daskenv_lab.flows.loading import load_flow

    return load_flow(word, surface.namespace)


def _say(surface: Surface, session: Session, report: PackageReport, said: str | None) -> None:
    from daskenv_lab.cli.tables import packages as table
    from daskenv_lab.environments.secret import mask

    surface.say(table(report))
    if said:
        surface.say(said)
    if report.silent:
        surface.say(f"No answer came from {', '.join(report.silent)}")
    for failure in sorted({f for g in report.groups for f in g.held.failures}):
        surface.say(f"Not installed on a worker: {mask(failure)}")
    if not report.workers:
        surface.say("There are no workers to compare with; ask for some with `daskenv scale 2`")
    elif report.ok:
        surface.say("Nothing differs that matters")
    elif report.missing:
        surface.say(_offer(surface, session, report))


def _offer(surface: Surface, session: Session, report: PackageReport) -> str:
    """Say what could be done about what is missing."""
    from daskenv_lab.packages.install import plan, refusals

    planned = plan(session.connection, report)
    verb = "%daskenv" if surface.notebook else "daskenv"
    if not planned.pins:
        return f"Nothing can be installed{refusals(planned)}"
    return f"`{verb} packages ... --install` installs {planned.told} on the workers until they end"


def _installed(
    surface: Surface,
    session: Session,
    report: PackageReport,
    flows: list[Any],
    *,
    asked: bool,
) -> tuple[PackageReport, str | None]:
    """Install what is missing if that is wanted, and compare again."""
    from daskenv_lab.packages.install import install, plan

    planned = plan(session.connection, report)
    if asked and not report.missing:
        return report, "Nothing is missing that could be installed"
    if not asked and not _agreed(surface, planned):
        return report, None
    with surface.waiting() as progress:
        progress(f"Installing {planned.told}")
        said = install(session.connection, planned)
    return session.packages(*flows), said


def _agreed(surface: Surface, planned: Plan) -> bool:
    return bool(planned.pins) and surface.ask(
        f"Install {planned.told} on the workers, until they end?"
    )
