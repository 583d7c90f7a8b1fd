"""A Dockerfile gives an image the packages of the flows, without taking anybody's files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from daskenv_lab.environments import (
    DaskCloudProviderEnvironment,
    DaskGatewayEnvironment,
    Environment,
)
from daskenv_lab.errors import ExportError
from daskenv_lab.export import Image, Request, write_environment

IMAGE = Image(
    pins={"dask": "2026.8.0", "prefect": "3.8.8", "etl": "1.0+local", "odd": ""},
    python="3.11",
    doubts={"etl": "it was installed here from a folder", "conjured": "no package brings it"},
)


def _write(
    folder: Path,
    name: str = "Dockerfile",
    *,
    environment: Environment | None = None,
    image: Image = IMAGE,
    overwrite: bool = False,
    lacks: dict[str, str] | None = None,
) -> str:
    made = environment or DaskGatewayEnvironment("local", api_token="hunter2")
    request = Request(source="here", when=datetime.now(UTC), image=image)
    path = write_environment(made, folder / name, request, overwrite=overwrite, lacks=lacks)
    return path.read_text()


def _pins(path: Path) -> list[str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return [str(Requirement(line)) for line in lines]


def test_the_image_is_dasks_with_the_packages(tmp_path: Path) -> None:
    """Without an image of its own, an environment gets Dask's of the same versions."""
    text = _write(tmp_path, lacks={"etl": "1.0"})
    comment, _, body = text.partition("\n\n")
    assert all(line.startswith("# ") for line in comment.splitlines())
    assert "DASKENV_API_TOKEN" in comment
    assert "hunter2" not in text
    assert body == (
        "FROM ghcr.io/dask/dask:2026.8.0-py3.11\n\n"
        "COPY requirements.txt /tmp/requirements.txt\n"
        "RUN python -m pip install --no-cache-dir -r /tmp/requirements.txt\n"
    )
    packages = tmp_path / "requirements.txt"
    assert _pins(packages) == ["dask==2026.8.0", "etl==1.0+local", "odd", "prefect==3.8.8"]
    assert "# conjured: no package brings it\n" in packages.read_text()


@pytest.mark.parametrize(
    "environment",
    [
        DaskGatewayEnvironment("local", image="ghcr.io/example/flows:1"),
        DaskCloudProviderEnvironment("fargate", image="ghcr.io/example/flows:1"),
    ],
)
def test_the_environments_own_image_is_built_upon(tmp_path: Path, environment: Environment) -> None:
    """An environment's image stays the base."""
    text = _write(tmp_path, environment=environment, image=Image())
    assert "\nFROM ghcr.io/example/flows:1\n" in text


def test_somebodys_requirements_stay(tmp_path: Path) -> None:
    """A list of packages that is not ours is left, and another name is taken."""
    packages = tmp_path / "requirements.txt"
    packages.write_text("mine\n")
    assert "COPY Dockerfile.requirements.txt /tmp/" in _write(tmp_path)
    assert packages.read_text() == "mine\n"
    _write(tmp_path)
    other = tmp_path / "Dockerfile.requirements.txt"
    other.write_text("mine too\n")
    before = (tmp_path / "Dockerfile").read_text()
    with pytest.raises(ExportError, match="left as they are"):
        _write(tmp_path, image=Image(pins={"dask": "1"}, python="3.11"))
    assert other.read_text() == "mine too\n"
    assert (tmp_path / "Dockerfile").read_text() == before
    _write(tmp_path, overwrite=True)
    assert packages.read_text() == "mine\n"
    assert "prefect==3.8.8" in other.read_text()


def test_two_dockerfiles_have_two_lists(tmp_path: Path) -> None:
    """The list of one Dockerfile is not replaced by another one's."""
    _write(tmp_path)
    before = (tmp_path / "requirements.txt").read_text()
    small = Image(pins={"dask": "1"}, python="3.11")
    assert "COPY big.dockerfile.requirements.txt" in _write(tmp_path, "big.dockerfile", image=small)
    assert (tmp_path / "requirements.txt").read_text() == before
    assert _pins(tmp_path / "big.dockerfile.requirements.txt") == ["dask==1"]


def test_an_edited_dockerfile_stays_and_nothing_else_is_written(tmp_path: Path) -> None:
    """What somebody wrote is left, and no list of packages appears beside it."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(ExportError, match="not an unedited export"):
        _write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["Dockerfile"]


@pytest.mark.parametrize("image", ["a/b:1\nRUN evil", "$HOME", "a b", "--platform=x", "a/b\\"])
def test_an_image_that_means_something_in_a_dockerfile_is_refused(
    tmp_path: Path, image: str
) -> None:
    """Nothing in an image's name can become an instruction."""
    with pytest.raises(ExportError, match="means something in a Dockerfile"):
        _write(tmp_path, environment=DaskGatewayEnvironment("local", image=image))
    assert not list(tmp_path.iterdir())


def test_without_versions_there_is_no_image_to_build_upon(tmp_path: Path) -> None:
    """Dask's image is known by Dask's and Python's versions alone."""
    with pytest.raises(ExportError, match="none to build upon"):
        _write(tmp_path, image=Image(pins={"prefect": "3"}))
