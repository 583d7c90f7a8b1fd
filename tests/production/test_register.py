"""What becomes of a flow that is registered: the module, the proof, the deployment."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.schedules import Interval

from daskenv_lab import DaskGatewayEnvironment
from daskenv_lab.errors import EnvironmentValueError, ExportError, RegistrationError
from daskenv_lab.production.entrypoint import placed, prove
from tests.production.conftest import make_pool

# Clusters and clean processes start slowly where several tests run at once.
pytestmark = pytest.mark.timeout(600)

ENVIRONMENT = DaskGatewayEnvironment("local", n_workers=1)

BOUND = """
    from prefect import flow
    from daskenv_lab import DaskGatewayEnvironment

    @flow(task_runner=DaskGatewayEnvironment("local", n_workers=1).task_runner())
    def add_up(x: list[int]) -> int:
        return sum(x)
"""

PLAIN = """
    from prefect import flow, task

    @task
    def add_one(i: int) -> int:
        return i + 1

    @flow(name="Add up", description="Adds up")
    def add_up(x: list[int], note: str = "none") -> int:
        return sum(add_one.map(x).result())
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Give a function that writes a module and says where its flow is."""

    def write(code: str = PLAIN, *, file: str = "flows.py", name: str = "add_up") -> str:
        (tmp_path / file).write_text(textwrap.dedent(code).lstrip())
        return f"{tmp_path / file}:{name}"

    return write


def _deployment(made: Any) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_deployment(made.id)


def test_a_flow_that_is_bound_to_nothing(pool: str, write: Callable[..., str]) -> None:
    """A module beside it binds it, which a clean process can load."""
    made = ENVIRONMENT.register(write(), name="each night", work_pool_name=pool)
    assert made.written is not None
    assert made.written.name == "add_up_each_night.py"
    assert "from flows import add_up" in made.written.read_text()
    found = _deployment(made)
    assert (made.name, found.description) == ("Add up/each night", "Adds up")
    assert found.entrypoint == "add_up_each_night.py:add_up"
    assert found.job_variables == {}
    proof = prove(placed(made.written, "add_up"))
    assert proof.fingerprint == ENVIRONMENT.fingerprint


def test_a_flow_that_is_bound_to_another(pool: str, write: Callable[..., str]) -> None:
    """Its runs get the environment that was registered as a process variable."""
    environment = ENVIRONMENT.replace(note="{{ prefect.variables.x }} $HOME 'é'")
    made = environment.register(write(BOUND), name="nightly", work_pool_name=pool)
    written = _deployment(made).job_variables["env"]["DASKENV_ENVIRONMENT"]
    assert made.written is None
    assert "{{" not in written
    assert json.loads(written)["arguments"]["note"] == "{{ prefect.variables.x }} $HOME 'é'"


NOTEBOOK = """
import json as j
from dataclasses import dataclass
from prefect import flow, task

LIMIT = 10
UNUSED = open("/dev/null")

@dataclass
class Row:
    value: int

def shorten(x):
    return x[:LIMIT]

@task
def add_one(row: Row) -> int:
    return row.value + 1

@flow
def add_up(x: list[int]) -> str:
    return j.dumps(sum(add_one.map([Row(i) for i in shorten(x)]).result()))

def by_length(parameters, provider_kwargs):
    provider_kwargs["n_workers"] = min(LIMIT, len(parameters["x"]))
"""


def test_a_notebooks_flow(pool: str, tmp_path: Path, api: str) -> None:
    """It is written to a module with what it uses, and with the hooks of the environment."""
    script = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell({NOTEBOOK!r}).raise_error()
shell.run_cell('''
from daskenv_lab import DaskGatewayEnvironment
environment = DaskGatewayEnvironment("local", on_execute=by_length, auth=None)
made = environment.register(add_up, name="nightly", work_pool_name={pool!r})
print(made)
''').raise_error()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=200,
        env={**__import__("os").environ, "PREFECT_API_URL": api}, check=False,
    )  # fmt: skip
    assert "Registered add-up/nightly" in done.stdout, done.stdout + done.stderr
    code = (tmp_path / "add_up_nightly.py").read_text()
    for line in ("import json as j", "LIMIT = 10", "class Row:", "def by_length", "on_execute="):
        assert line in code
    assert "UNUSED" not in code
    proof = prove(placed(tmp_path / "add_up_nightly.py", "add_up"))
    assert proof.parameters["required"] == ["x"]
    assert proof.fingerprint


@pytest.mark.parametrize("kind", ["ecs", "kubernetes"])
def test_pools_whose_jobs_are_containers(api: str, write: Callable[..., str], kind: str) -> None:
    """They are told the image and the process variables as their templates have them."""
    name = make_pool(kind)
    made = ENVIRONMENT.register(
        write(BOUND),
        name="nightly",
        work_pool_name=name,
        image="ghcr.io/example/flows:1",
        job_variables={"env": {"MODE": "dark"}},
    )
    found = _deployment(made)
    assert found.job_variables == {"image": "ghcr.io/example/flows:1", "env": {"MODE": "dark"}}
    assert (found.work_pool_name, found.path) == (name, None)


def test_what_is_said_again(api: str, pool: str, write: Callable[..., str]) -> None:
    """A second registration changes the deployment; what it leaves out is taken away."""
    name = make_pool("docker")
    with get_client(sync_client=True) as client:
        client.create_work_queue("urgent", work_pool_name=name)
    place = write(BOUND)
    labelled = ENVIRONMENT.replace(labels=["team-a", "urgent"])
    first = labelled.register(place, name="again", work_pool_name=pool, schedule=60)
    made = labelled.register(
        place, name="again", work_pool_name=name, path="/opt/flows", image="x:2", schedule=None
    )
    found = _deployment(made)
    assert made.id == first.id
    assert (found.path, found.work_queue_name, found.schedules) == ("/opt/flows", "urgent", [])
    assert found.tags == ["team-a", "urgent"]


def test_schedules(pool: str, write: Callable[..., str]) -> None:
    """A text is a cron line, a number or timedelta an interval; Prefect's own are taken as well."""
    schedule = ["0 6 * * *", 3600, timedelta(hours=2), Interval(60, slug="often")]
    made = ENVIRONMENT.register(
        write(BOUND), name="nightly", work_pool_name=pool, schedule=schedule, parameters={"x": [1]}
    )
    found = [one.schedule for one in _deployment(made).schedules]
    assert {one.cron for one in found if hasattr(one, "cron")} == {"0 6 * * *"}
    seconds = {one.interval.total_seconds() for one in found if hasattr(one, "interval")}
    assert seconds == {3600, 7200, 60}


def test_secrets_stay_here(pool: str, write: Callable[..., str]) -> None:
    """What the runs must be given besides is listed, and in nothing that is written."""
    environment = DaskGatewayEnvironment(
        "https://gateway.example.org",
        auth={"type": "basic", "username": "ada", "password": "hunter2"},
    )
    made = environment.register(write(BOUND), name="nightly", work_pool_name=pool)
    assert made.secrets == ("DASKENV_GATEWAY_PASSWORD",)
    assert "DASKENV_GATEWAY_PASSWORD" in str(made)
    told = _deployment(made).model_dump_json()
    assert "gateway.example.org" in told
    assert "hunter2" not in told


BROKEN = "from prefect import flow\nimport no_such_thing\n@flow\ndef add_up(): ...\n"
MISSING = "from prefect import flow\n@flow\ndef other(): ...\n"


@pytest.mark.parametrize(
    ("code", "options", "sentence"),
    [
        (BROKEN, {}, r"No module named 'no_such_thing'.*mend the module"),
        (MISSING, {}, "cannot be loaded in a clean process"),
        ("x = 1 +", {}, "cannot be loaded in a clean process"),
        (PLAIN, {"work_pool_name": "her"}, "no work pool 'her'; did you mean 'here'"),
        (PLAIN, {"image": "x:1"}, "of the type 'process' takes no 'image'"),
        (PLAIN, {"job_variables": {"cpu": 1}}, "takes no 'cpu'"),
        (PLAIN, {"schedule": "each night"}, "'each night' is no schedule"),
        (PLAIN, {"schedule": -5}, "-5 is no schedule"),
        (PLAIN, {"name": "a/b"}, "'a/b' cannot name a deployment"),
        (BOUND, {"parameters": {"x": "no list"}}, "API refuses the deployment"),
    ],
)
def test_what_cannot_be_registered(
    pool: str, write: Callable[..., str], code: str, options: dict[str, Any], sentence: str
) -> None:
    """One sentence says why, and nothing is made."""
    given = {"name": "bad", "work_pool_name": pool, **options}
    with pytest.raises(RegistrationError, match=sentence):
        ENVIRONMENT.register(write(code), **given)
    with get_client(sync_client=True) as client:
        assert "bad" not in [d.name for d in client.read_deployments()]


@pytest.mark.parametrize("flow", ["flows.py", "nowhere.py:f", "a b", 7, print])
def test_what_is_no_flow(pool: str, flow: Any) -> None:
    """A word that names no place, and what is no flow at all."""
    with pytest.raises(RegistrationError, match=r"no (place of a )?flow|is not in"):
        ENVIRONMENT.register(flow, name="x", work_pool_name=pool)


def test_a_file_of_somebody_else_stays(pool: str, write: Callable[..., str]) -> None:
    """The module that would be written is there already."""
    place = write()
    theirs = Path(place.rpartition(":")[0]).with_name("add_up_nightly.py")
    theirs.write_text("mine = 1\n")
    with pytest.raises(ExportError, match="left as it is"):
        ENVIRONMENT.register(place, name="nightly", work_pool_name=pool)
    assert theirs.read_text() == "mine = 1\n"


def test_hooks_that_nobody_can_import(pool: str, write: Callable[..., str]) -> None:
    """A lambda is refused by its name."""
    environment = DaskGatewayEnvironment("local", on_start=lambda: None)
    with pytest.raises((ExportError, EnvironmentValueError), match="on_start"):
        environment.register(write(), name="nightly", work_pool_name=pool)
