"""A Dockerfile, and the list of packages beside it, for the image of an environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from daskenv_lab.environments import DaskCloudProviderEnvironment, DaskGatewayEnvironment
from daskenv_lab.errors import ExportError
from daskenv_lab.export.secrets import variables, written
from daskenv_lab.export.signature import comment, signed, untouched

if TYPE_CHECKING:
    from pathlib import Path

    from daskenv_lab.environments import Environment
    from daskenv_lab.export.request import Request

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]*")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def dockerfile(environment: Environment, request: Request, requirements: str) -> str:
    """Write the Dockerfile of an image that holds what the flows import.

    Parameters
    ----------
    environment : Environment
        Its own image is the one that is built upon; else it is Dask's.
    request : Request
        What is asked for; its `image` names the versions.
    requirements : str
        The name of the file with the packages, beside the Dockerfile.

    Raises
    ------
    ExportError
        The image's name, or the file's, means something else in a Dockerfile.
    """
    written(environment)
    base = image_of(environment) or _dask(request)
    for name, form in ((base, _IMAGE), (requirements, _FILE)):
        if not form.fullmatch(name):
            raise ExportError(
                f"{name!r:.120} has a character that means something in a Dockerfile; "
                "use letters, digits, '.', '_' and '-'"
            )
    head = comment(
        request.source,
        request.when,
        variables(environment),
        "Build the image with `docker build`, and name it in the environment (image=...).",
    )
    copied = f"/tmp/{requirements}"  # noqa: S108 - in the image that is built
    return signed(
        f"{head}\nFROM {base}\n\nCOPY {requirements} {copied}\n"
        f"RUN python -m pip install --no-cache-dir -r {copied}\n"
    )


def requirements_text(request: Request, dockerfile_name: str) -> str:
    """Write the list of packages with their versions, as pip reads it."""
    image = request.image
    head = comment(request.source, request.when, (), _owner(dockerfile_name))
    lines = [_pinned(name, version) for name, version in sorted(image.pins.items())]
    doubts = [f"# {name}: {why}\n" for name, why in sorted(image.doubts.items())]
    said = "".join(doubts).encode("ascii", "backslashreplace").decode("ascii")
    return signed(f"{head}{said}\n{''.join(lines)}")


def requirements_file(dockerfile_path: Path, *, overwrite: bool) -> Path:
    """Choose the file for the packages: one that is nobody's, or our own for this Dockerfile.

    It is ``requirements.txt``, or else named after the Dockerfile.

    Raises
    ------
    ExportError
        Both are somebody's.
    """
    name = dockerfile_path.name
    plain = dockerfile_path.with_name("requirements.txt")
    if _ours(plain, name):
        return plain
    named = dockerfile_path.with_name(f"{name}.requirements.txt")
    if overwrite or _ours(named, name):
        return named
    raise ExportError(
        f"{plain} and {named} exist and are not unedited exports for {name}, so they are left as "
        "they are; write the Dockerfile into another folder or under another name, or say "
        "overwrite (--overwrite, overwrite=True), which replaces the second"
    )


def image_of(environment: Environment) -> str | None:
    """Give the image that an environment names, or None."""
    if isinstance(environment, DaskGatewayEnvironment):
        return environment.image
    if isinstance(environment, DaskCloudProviderEnvironment):
        image = environment.provider_kwargs.get("image")
        return image if isinstance(image, str) else None
    return None


def _dask(request: Request) -> str:
    version = request.image.pins.get("dask")
    if not version or not request.image.python:
        raise ExportError(
            f"the image was asked for with the versions {dict(request.image.pins)!r:.120}, and "
            "without those of dask and Python there is none to build upon; give them, or give the "
            "environment an image"
        )
    # https://docs.dask.org/en/stable/deploying-docker.html
    return f"ghcr.io/dask/dask:{version}-py{request.image.python}"


def _pinned(name: str, version: str) -> str:
    return f"{name}=={version}\n" if version else f"{name}\n"


def _owner(dockerfile_name: str) -> str:
    return f"The packages of the image that {dockerfile_name} makes."


def _ours(path: Path, dockerfile_name: str) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        return False
    return untouched(text) and _owner(dockerfile_name) in " ".join(text.replace("#", "").split())
