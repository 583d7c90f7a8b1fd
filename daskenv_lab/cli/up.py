"""The verb that starts a cluster, and first makes an AWS account ready if it must."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import click

from daskenv_lab.cli.options import duration, rehearsing
from daskenv_lab.cli.words import assignments
from daskenv_lab.errors import CommandError, ProviderError

if TYPE_CHECKING:
    from daskenv_lab.cli.surface import Surface
    from daskenv_lab.environments import Environment
    from daskenv_lab.session import Session

_SIZES = {
    "workers": "n_workers",
    "minimum": "adaptive_min_workers",
    "maximum": "adaptive_max_workers",
}


@click.command()
@click.argument("what", required=False)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--name", metavar="NAME", help="The cluster's name; by default daskenv.name.")
@click.option("--workers", type=int, metavar="N", help="A fixed number of workers.")
@click.option("--min", "minimum", type=int, metavar="N", help="Least number of workers.")
@click.option("--max", "maximum", type=int, metavar="N", help="Greatest number of workers.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="The same as KEY=VALUE."
)
@click.option("--replace", is_flag=True, help="Replace a cluster that has other settings.")
@click.option("--timeout", type=duration, help="How long a new cluster may take to start.")
@rehearsing
@click.option(
    "--allow-from",
    metavar="CIDR",
    help="From where the scheduler in AWS may be reached; by default from your address alone.",
)
@click.option("--bootstrap", is_flag=True, help="Make what clusters in AWS share, if it lacks.")
@click.pass_obj
def up(
    surface: Surface,
    /,
    what: str | None,
    settings: tuple[str, ...],
    name: str | None,
    options: tuple[str, ...],
    replace: bool,
    timeout: float | None,
    rehearse: bool,
    allow_from: str | None,
    bootstrap: bool,
    **sizes: int | None,
) -> None:
    """Start a cluster, or reuse the one that has the name.

    WHAT is a profile, a kind (local, gateway, fargate, ecs, remote) or a cluster class's path.
    KEY=VALUE is a setting of that kind, as in n_workers=4; a value is a Python literal, or text.
    """
    from daskenv_lab.settings import table

    words = [*settings, *options]
    if what is not None and "=" in what:
        words.insert(0, what)
        what = None
    given = assignments(words, noun="option")
    given |= {_SIZES[size]: n for size, n in sizes.items() if n is not None}
    if "what" in given:
        raise CommandError("no setting is named 'what'; give the profile or kind itself after up")
    only_aws = {"--rehearse": rehearse, "--allow-from": allow_from, "--bootstrap": bootstrap}
    given |= {"rehearse": True} if rehearse else {}
    given |= {"allow_from": allow_from} if allow_from is not None else {}
    environment = _environment(what, given, [o for o, v in only_aws.items() if v])
    session = _started(
        surface, environment, yes=bootstrap, name=name, replace=replace, timeout=timeout
    )
    surface.hold(session)
    surface.say(session.message)
    if session.changes:
        surface.say(table(session.changes))
    if session.dashboard_link:
        surface.say(f"Dashboard: {session.dashboard_link}")
    _warn_of_packages(surface, session)


def _warn_of_packages(surface: Surface, session: Session) -> None:
    """Show the packages of which a difference matters, also those that the notebook's flows use."""
    from daskenv_lab.cli.packages import known_flows
    from daskenv_lab.cli.tables import packages
    from daskenv_lab.packages.compare import news

    report = None
    # What was started or reused is there, whatever becomes of this look at it.
    with contextlib.suppress(ProviderError):
        workers = [worker.address for worker in session.info().workers]
        report = news(session.connection, workers, known_flows(surface))
    if report is not None:
        surface.warn(packages(report, only_troubles=True))
        surface.warn("Packages differ; `daskenv packages` tells what can be done")


def _environment(what: str | None, given: dict[str, Any], only_aws: list[str]) -> Environment:
    """Make the environment; an option that is only for AWS says so where it does not fit."""
    from daskenv_lab import accounts, config, lifecycle

    if not only_aws:
        return lifecycle.environment_for(what, **given)
    base = accounts.in_aws(what or str(config.get("profile")), asked=only_aws[0])
    return lifecycle.environment_for(base, **given)


def _started(surface: Surface, environment: Environment, *, yes: bool, **how: Any) -> Session:
    """Start or reuse; offer to make what an AWS account lacks, and start then."""
    from daskenv_lab import accounts, lifecycle

    try:
        with surface.waiting() as progress:
            # Dask's own table of versions, which tells no matter of what weight: ours follows.
            warnings.filterwarnings("ignore", message="Mismatched versions")
            return lifecycle.up(environment, progress=progress, **how)
    except ProviderError as error:
        if not accounts.lacks_shared_set(environment, error):
            raise
        if not yes and not _agreed(surface, environment):
            raise
    with surface.waiting() as progress:
        accounts.bootstrap(environment, progress=progress)
        return lifecycle.up(environment, progress=progress, **how)


def _agreed(surface: Surface, environment: Environment) -> bool:
    """Show what the account lacks and ask, where somebody can answer."""
    if not surface.can_ask:
        return False
    from daskenv_lab import accounts
    from daskenv_lab.cli.tables import resources

    surface.warn("The account lacks some of what all clusters in it share:")
    surface.warn(resources(accounts.bootstrap(environment, dry_run=True)))
    return surface.ask("Create these?")
