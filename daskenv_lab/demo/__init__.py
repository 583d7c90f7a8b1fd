"""The story of this package, played in a terminal or opened in JupyterLab."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from daskenv_lab import lifecycle
from daskenv_lab.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.resources.abc import Traversable

    from daskenv_lab.report import FlowRunReport
    from daskenv_lab.session import Session

T = TypeVar("T")

QUICKSTART = "00_quickstart.ipynb"

NAME = "demo"
"""The name of the demonstration's cluster."""


def play(progress: Callable[[str], None], *, parts: int = 15) -> None:
    """Play the whole story: start, run, scale, run on data, export, reuse, destroy.

    Parameters
    ----------
    progress : callable
        Gets a sentence whenever there is something to wait for.
    parts : int
        Parquet files of the second flow, of about 20 MB each.

    Raises
    ------
    DaskEnvLabError
        A step failed; the cluster is destroyed all the same.
    """
    from daskenv_lab.demo.flows import add_up, measurements

    with ExitStack() as cleanup:
        session = _step(
            "daskenv up local --name demo",
            lambda: lifecycle.up("local", name=NAME, progress=progress),
        )
        cleanup.callback(session.down)
        click.echo(f"    {session.message}; dashboard: {session.dashboard_link}")

        _run(session, add_up, {"x": [1, 2, 3]})
        _run(session, add_up, {"x": list(range(20))})

        _step("daskenv scale 3", lambda: session.scale(3))
        _wait_for(session, 3, progress)

        _run(session, measurements, {"parts": parts})

        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="daskenv-demo-")))
        path = _step(
            "daskenv export environment.py", lambda: session.export(folder / "environment.py")
        )
        click.echo("    " + path.read_text(encoding="utf-8").rstrip().replace("\n", "\n    "))

        session.close()
        again = _step(
            "daskenv up local --name demo",
            lambda: lifecycle.up("local", name=NAME, progress=progress),
        )
        click.echo(f"    {again.message}")
        cleanup.pop_all()
        _step("daskenv down demo", again.down)


def open_lab(arguments: tuple[str, ...] = ()) -> int:
    """Open JupyterLab on a copy of the quickstart notebook in the current folder.

    Parameters
    ----------
    arguments : tuple of str
        Passed on to ``jupyter lab``.

    Returns
    -------
    int
        JupyterLab's exit code.

    Raises
    ------
    StateError
        The notebook cannot be copied here.
    """
    target = Path(QUICKSTART)
    if not target.exists():
        try:
            with resources.as_file(_quickstart()) as source:
                shutil.copyfile(source, target)
        except OSError as error:
            raise StateError(
                f"the quickstart notebook cannot be copied to {target.absolute()} "
                f"({error.strerror}); change to a folder that you may write to"
            ) from error
    return subprocess.call([sys.executable, "-m", "jupyter", "lab", str(target), *arguments])


def _quickstart() -> Traversable:
    inside = resources.files("daskenv_lab.demo") / QUICKSTART
    # An editable installation has the notebook only where it is written.
    return inside if inside.is_file() else Path(__file__).parents[2] / "notebooks" / QUICKSTART


def _step(words: str, action: Callable[[], T]) -> T:
    click.secho(f"$ {words}", bold=True)
    began = time.perf_counter()
    result = action()
    click.echo(f"    ({time.perf_counter() - began:.1f} s)")
    return result


def _run(session: Session, flow: object, parameters: Mapping[str, object]) -> None:
    name = getattr(flow, "__name__", flow)
    words = " ".join(f"{k}={str(v).replace(' ', '')}" for k, v in parameters.items())
    report: FlowRunReport = _step(
        f"daskenv run daskenv_lab.demo.flows:{name} {words}",
        lambda: session.run(flow, **parameters),
    )
    states = ", ".join(f"{n} {state}" for state, n in report.states.items())
    click.echo(f"    {report.result}  ({states}; {report.bytes_moved / 1e6:.1f} MB moved)")


def _wait_for(session: Session, n: int, progress: Callable[[str], None]) -> None:
    deadline = time.monotonic() + 60
    while (there := session.info().n_workers) < n and time.monotonic() < deadline:
        progress(f"Waiting for workers: {there} of {n} are there")
        time.sleep(0.2)
    click.echo(f"    {there} workers")
