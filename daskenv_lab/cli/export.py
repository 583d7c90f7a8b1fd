"""``export``: write a cluster's settings down for production."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daskenv_lab.cli.options import named

if TYPE_CHECKING:
    from daskenv_lab.cli.surface import Surface

_FORMATS = ("python", "json", "dask", "prefect", "dockerfile")


@click.command()
@click.argument("path", required=False)
@click.option(
    "--format", "format", type=click.Choice(_FORMATS), help="By default what PATH's name says."
)
@click.option("--overwrite", is_flag=True, help="Replace the file, whatever it is.")
@click.option("--allow-missing", is_flag=True, help="Also if its image lacks packages.")
@click.option("--profile", metavar="NAME", help="dask: the profile; by default the cluster's name.")
@click.option("--entrypoint", metavar="FILE.py:FLOW", help="prefect: where the flow is.")
@click.option("--deployment-name", metavar="NAME", help="prefect: by default the flow's name.")
@click.option("--work-pool", "work_pool_name", metavar="POOL", help="prefect: where it runs.")
@named
@click.pass_obj
def export(
    surface: Surface,
    /,
    path: str | None,
    name: str | None,
    deployment_name: str | None,
    **wanted: Any,
) -> None:
    """Write a cluster's settings down for production.

    PATH is such as environment.py (a Python module, and the default), environment.json,
    environment.yaml (a profile for Dask), prefect.yaml or Dockerfile.
    """
    written = surface.session(name).export(path, name=deployment_name, **wanted)
    surface.say(f"Wrote {written}")
