"""The verbs for an AWS account: make what clusters share, and examine it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from daskenv_lab.cli.options import in_json, named, rehearsing
from daskenv_lab.errors import CommandError

if TYPE_CHECKING:
    from daskenv_lab.accounts import PolicyKind
    from daskenv_lab.cli.surface import Surface


@click.command()
@click.argument("what", required=False)
@click.option("--dry-run", is_flag=True, help="Only show what is there, and what would be made.")
@click.option("--remove", is_flag=True, help="Remove the set, once nothing runs on it.")
@click.option(
    "--policy",
    type=click.Choice(["bootstrap", "use"]),
    help="Only print the IAM policy for whoever makes the set, or runs clusters on it.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@rehearsing
@in_json
@click.pass_context
def bootstrap(
    ctx: click.Context,
    /,
    what: str | None,
    dry_run: bool,
    remove: bool,
    policy: PolicyKind | None,
    yes: bool,
    rehearse: bool,
    as_json: bool,
) -> None:
    """Make the set of AWS resources that all clusters in an account share, once.

    WHAT is a profile, fargate or ecs; resources that it names itself are left alone.
    """
    surface: Surface = ctx.obj
    if policy is not None:
        if remove or dry_run:
            raise CommandError(
                "bootstrap was given --policy, which changes nothing, beside --dry-run or --remove;"
                " give one of them"
            )
        from daskenv_lab import accounts

        surface.say_json(accounts.policy(policy, what, rehearse=rehearse))
        return
    step = _remove if remove else _make
    if not step(surface, what, dry_run=dry_run, yes=yes, rehearse=rehearse, as_json=as_json):
        surface.warn("Nothing was changed")
        ctx.exit(1)


def _make(
    surface: Surface, what: str | None, *, dry_run: bool, yes: bool, rehearse: bool, as_json: bool
) -> bool:
    """Show the set, and make what is missing; False if the answer was no."""
    from daskenv_lab import accounts
    from daskenv_lab.cli.tables import resources

    with surface.waiting() as progress:
        parts = accounts.bootstrap(what, dry_run=True, rehearse=rehearse, progress=progress)
    todo = [part for part in parts if not part.whole]
    if todo and not dry_run:
        # What is made is shown before, and is no part of a JSON answer.
        (surface.warn if as_json else surface.say)(resources(parts))
        if not yes and surface.can_ask and not surface.ask("Create these?"):
            return False
        with surface.waiting() as progress:
            parts = accounts.bootstrap(what, rehearse=rehearse, progress=progress)
    if as_json:
        surface.say_json([asdict(part) for part in parts])
    elif todo and not dry_run:
        surface.say(f"Made or mended {', '.join(f'{p.kind} {p.name}' for p in todo)}")
    else:
        surface.say(resources(parts))
        if not todo:
            surface.say("Nothing is missing")
    return True


def _remove(
    surface: Surface, what: str | None, *, dry_run: bool, yes: bool, rehearse: bool, as_json: bool
) -> bool:
    """Remove the set; False if the answer was no."""
    from daskenv_lab import accounts

    told: list[str] = []
    asking = not yes and surface.can_ask
    if dry_run or asking:
        with surface.waiting() as progress:
            told = accounts.bootstrap(
                what, remove=True, dry_run=True, rehearse=rehearse, progress=progress
            )
    if not dry_run:
        if asking and told:
            surface.warn("\n".join(told))
            if not surface.ask("Remove these, and the task definitions made from them?"):
                return False
        with surface.waiting() as progress:
            told = accounts.bootstrap(what, remove=True, rehearse=rehearse, progress=progress)
    if as_json:
        surface.say_json(told)
    elif told:
        surface.say(f"{'Would remove' if dry_run else 'Removed'} {', '.join(told)}")
    else:
        surface.say("Nothing to remove")
    return True


@click.command()
@click.argument("what", required=False)
@named
@click.option("--probe", is_flag=True, help="Start a task that tells the versions in the image.")
@rehearsing
@in_json
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    what: str | None,
    name: str | None,
    probe: bool,
    rehearse: bool,
    as_json: bool,
) -> None:
    """Examine an AWS account, and a cluster in it: what was checked, the result, what to do.

    WHAT is a profile, fargate or ecs; with --name the scheduler of that cluster is tried too.
    """
    from daskenv_lab import accounts

    surface: Surface = ctx.obj
    with surface.waiting() as progress:
        found = accounts.doctor(what, name=name, probe=probe, rehearse=rehearse, progress=progress)
    if as_json:
        surface.say_json([asdict(finding) for finding in found])
    else:
        from daskenv_lab.cli.tables import findings

        surface.say(findings(found))
    if any(finding.result == "bad" for finding in found):
        ctx.exit(1)
