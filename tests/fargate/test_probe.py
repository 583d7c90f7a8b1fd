"""The image's versions, by a task that runs for a moment and never stays."""

from __future__ import annotations

from collections.abc import Iterator

import dask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskenv_lab import DaskCloudProviderEnvironment, rehearsal
from daskenv_lab.providers.fargate import definitions, fleet, shared
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.providers.fargate.checks import Finding
from daskenv_lab.providers.fargate.doctor import examine
from daskenv_lab.providers.fargate.probe import Version
from daskenv_lab.rehearsal import Fault

VERSIONS = st.tuples(*[st.integers(0, 30)] * 3).map(lambda v: ".".join(map(str, v)))


@pytest.fixture
def made(aws: Aws) -> Iterator[Aws]:
    """Give an account with the shared set, where no probe stays behind."""
    shared.ensure(aws, {}, progress=print)
    yield aws
    rehearsal.clear()
    left = [t for t in fleet.of_everybody(aws, "daskenv") if t.role == "probe" and t.wanted]
    assert left == []


def probed(**arguments: object) -> list[Finding]:
    """Examine with a probe, and give its lines."""
    wanted = DaskCloudProviderEnvironment("fargate", rehearse=True, **arguments)
    found = examine(wanted, probe=True, progress=print)
    return [f for f in found if f.what.startswith("probe")]


def test_the_image_is_compared_with_this_process(made: Aws) -> None:
    """A rehearsal's image holds what is here, so all is good, and the task bears our tags."""
    found = probed()
    assert [f.what for f in found] == [
        "probe: python",
        "probe: dask",
        "probe: distributed",
        "probe: cloudpickle",
        "probe: prefect",
    ]
    assert {f.result for f in found} == {"good"}
    stopped = [t for t in fleet.of_everybody(made, "daskenv", stopped=True) if t.role == "probe"]
    assert stopped
    assert all(t.identity and t.exit_code == 0 for t in stopped)


def test_an_image_that_is_not_there(made: Aws) -> None:
    """ECS's own reason is in the line."""
    rehearsal.order(Fault(kind="no-image", image="nobody/nothing:1"))
    [line] = probed(image="nobody/nothing:1")
    assert line.result == "bad"
    assert "CannotPullContainerError" in line.told
    assert "mend the image" in line.step


def test_an_image_that_does_not_run(made: Aws) -> None:
    """The exit code and what it wrote are told."""
    words = ["python", "-c", "import sys; print('no such thing'); sys.exit(3)"]
    override = {"containerOverrides": [{"name": "dask-worker", "command": words}]}
    [line] = probed(worker_task_kwargs={"overrides": override})
    assert line.result == "bad"
    assert "exit code 3" in line.told
    assert "no such thing" in line.told


def test_a_probe_that_takes_too_long_is_stopped(made: Aws) -> None:
    """The time limit is that of a start, and the task does not stay."""
    words = {"containerOverrides": [{"name": "dask-worker", "command": ["sleep", "60"]}]}
    with dask.config.set({"daskenv.timeouts.start": "1s"}):
        [line] = probed(worker_task_kwargs={"overrides": words})
    assert line.result == "bad"
    assert "after 1 s" in line.told


def test_no_room_for_the_probe(made: Aws) -> None:
    """A lack of capacity is waited for within the limit, and told."""
    rehearsal.order(Fault(kind="no-capacity"))
    with dask.config.set({"daskenv.timeouts.start": "1s"}):
        [line] = probed()
    assert "Capacity is unavailable" in line.told


def test_a_definition_that_writes_nowhere(made: Aws) -> None:
    """The line says why its versions cannot be read."""
    found = shared.find(made, {})
    assert found is not None
    told = definitions.definition(
        "worker",
        image="theirs",
        cpu=256,
        memory=512,
        gpu=None,
        architecture="X86_64",
        fargate=True,
        execution_role_arn=found.execution_role_arn,
        task_role_arn=found.task_role_arn,
        log_group=found.log_group,
        region=made.region,
        env_vars={},
        secrets={},
        mount_points=(),
        volumes=(),
        tags={},
    )
    del told["containerDefinitions"][0]["logConfiguration"]
    arn = definitions.ensure(made, {**told, "family": "theirs-silent"})
    [line] = probed(worker_task_definition_arn=arn)
    assert line.result == "bad"
    assert "nowhere" in line.told


def test_without_the_shared_set_nothing_is_run(empty_aws: Aws) -> None:
    """The probe is skipped, with the command that comes first."""
    [line] = probed()
    assert line.result == "skipped"
    assert "bootstrap" in line.step


@given(image=VERSIONS | st.none(), here=VERSIONS)
def test_versions_are_judged_by_what_matters(image: str | None, here: str) -> None:
    """Python's minor version decides, a package of Dask's must be there, Prefect may lack."""
    python = Version(package="python", image=image, here=here).verdict
    minor = image is not None and image.split(".")[:2] == here.split(".")[:2]
    assert python == ("good" if minor else "bad")
    for package in ("dask", "distributed", "cloudpickle"):
        verdict = Version(package=package, image=image, here=here).verdict
        same = "good" if image == here else "warning"
        assert verdict == ("bad" if image is None else same)
    assert Version(package="prefect", image=image, here=here).verdict in ("good", "warning")
