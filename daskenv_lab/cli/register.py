"""``register``: make a Prefect deployment whose flow runs have clusters of their own."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from daskenv_lab.cli.options import duration, in_json, named
from daskenv_lab.cli.words import assignments
from daskenv_lab.errors import CommandError

if TYPE_CHECKING:
    from daskenv_lab.cli.surface import Surface
    from daskenv_lab.environments import Environment


@click.command()
@click.argument("flow")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--work-pool", "work_pool_name", metavar="POOL", required=True, help="Where it runs.")
@click.option("--deployment-name", metavar="NAME", help="By default the flow's name.")
@click.option("--work-queue", "work_queue_name", metavar="QUEUE", help="A queue of that pool.")
@click.option("--image", metavar="IMAGE", help="For pools whose jobs are containers.")
@click.option("--cron", metavar="LINE", help="When it runs, such as '0 6 * * *'.")
@click.option("--every", metavar="DURATION", type=duration, help="How often it runs.")
@click.option("--profile", metavar="NAME", help="A profile's settings, not a cluster's.")
@click.option("--module", metavar="FILE.py", help="The module to write, if one is needed.")
@click.option("--overwrite", is_flag=True, help="Replace that module, whatever it is.")
@named
@in_json
@click.pass_obj
def register(
    surface: Surface,
    /,
    flow: str,
    parameters: tuple[str, ...],
    deployment_name: str | None,
    cron: str | None,
    every: float | None,
    profile: str | None,
    name: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a Prefect deployment of a flow; each of its runs gets a fresh cluster.

    FLOW is a flow of the notebook, PATH.py:FLOW or MODULE:FLOW. The cluster's tuned settings are
    taken.
    """
    if cron is not None and every is not None:
        raise CommandError(f"register was given --cron {cron!r} and --every; give one of the two")
    chosen = _flow(surface, flow)
    made = _environment(surface, profile, name).register(
        chosen,
        name=deployment_name or flow.rpartition(":")[2],
        schedule=cron if every is None else every,
        parameters=assignments(parameters, noun="parameter"),
        **options,
    )
    if as_json:
        surface.say_json(dataclasses.asdict(made))
    else:
        surface.say(str(made))


def _flow(surface: Surface, word: str) -> Any:
    """Give a notebook's flow itself, and any other by its place."""
    from daskenv_lab.flows.loading import load_flow

    return word if ":" in word else load_flow(word, surface.namespace)


def _environment(surface: Surface, profile: str | None, name: str | None) -> Environment:
    if profile is None:
        return surface.session(name).tuned()
    from daskenv_lab import lifecycle

    if name is not None:
        raise CommandError(
            f"register was given --profile {profile!r} and --name {name!r}; give one of the two"
        )
    return lifecycle.environment_for(profile)
