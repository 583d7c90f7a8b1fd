"""How the extension comes to a server, and what its words mean to Dask."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import daskenv_lab
from daskenv_lab.errors import UnknownNameError
from daskenv_lab.server.panes import PANES, word_of
from tests.server.jupyter import ENABLING


def test_installing_enables_it() -> None:
    """A wheel, also an editable one, puts the file where every Jupyter Server reads it."""
    assert json.loads(ENABLING.read_text()) == {
        "ServerApp": {"jpserver_extensions": {"daskenv_lab.server": True}}
    }
    root = Path(daskenv_lab.__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        # The wheel itself is installed here.
        folder = Path(sys.prefix) / "etc" / "jupyter" / "jupyter_server_config.d"
        assert (folder / ENABLING.name).read_text() == ENABLING.read_text()
        return
    told = tomllib.loads((root / "pyproject.toml").read_text())
    shared = told["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {
        "daskenv_lab/server/daskenv_lab.json": (
            "etc/jupyter/jupyter_server_config.d/daskenv_lab.json"
        )
    }


def test_loading_it_imports_nothing_heavy() -> None:
    """A server that starts waits for neither Dask nor Prefect."""
    code = (
        "import sys, daskenv_lab.server as s\n"
        "assert not {'tornado', 'jupyter_server', 'dask'} & set(sys.modules)\n"
        "assert s._jupyter_server_extension_points() == [{'module': 'daskenv_lab.server'}]\n"
        "import daskenv_lab.server.routes\n"
        "heavy = {'dask', 'distributed', 'prefect', 'bokeh', 'boto3'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_each_pane_is_a_page_of_dask() -> None:
    """The words stand for pages that there are, and each single plot has a word."""
    from distributed.dashboard.scheduler import applications

    pages = {page.strip("/") for page in applications}
    assert set(PANES.values()) <= pages
    single = {page for page in pages if page.startswith("individual-")}
    assert single <= set(PANES.values())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("task-steam", "task-stream"), ("worker-memory", "workers-memory"), ("Status", "status")],
)
def test_a_mistyped_pane_names_the_nearest(typed: str, meant: str) -> None:
    """One sentence, with what was probably meant."""
    with pytest.raises(UnknownNameError, match=f"no pane '{typed}'; did you mean '{meant}'"):
        word_of(typed)
