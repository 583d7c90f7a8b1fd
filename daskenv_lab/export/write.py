"""Write an export, without ever losing what somebody wrote by hand."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from daskenv_lab.errors import ExportError
from daskenv_lab.export.image import dockerfile, requirements_file, requirements_text
from daskenv_lab.export.module import python_module
from daskenv_lab.export.signature import untouched
from daskenv_lab.export.texts import dask_profile, json_document, prefect_deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from daskenv_lab.environments import Environment
    from daskenv_lab.export.request import Request

_LARGEST = 10_000_000
"""Bytes; a file beyond this is no export of ours and is not read."""


def write_environment(
    environment: Environment,
    path: str | Path,
    request: Request,
    *,
    overwrite: bool = False,
    lacks: Mapping[str, str] | None = None,
) -> Path:
    """Write an environment into a file, in the format that is asked for.

    A file that is there already is replaced in one step, and only if it is an export that nobody
    has edited since. Beside a Dockerfile, its list of packages is written too.

    Parameters
    ----------
    environment : Environment
        The settings.
    path : str or Path
        The file.
    request : Request
        The format, where the settings come from, and what goes with them.
    overwrite : bool
        Replace the file whatever it is.
    lacks : mapping of str to str, optional
        The packages that flows import and the environment's image lacks, each with its version;
        with any of them there is no export but a Dockerfile, which adds them.

    Returns
    -------
    Path
        The file, as an absolute path.

    Raises
    ------
    ExportError
        The file is somebody else's, or cannot be written, a setting cannot be written down, or
        the image lacks something.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from daskenv_lab import DaskGatewayEnvironment
    >>> write_environment(  # doctest: +SKIP
    ...     DaskGatewayEnvironment("local"),
    ...     "environment.py",
    ...     Request(source="here", when=datetime.now(UTC)),
    ... )
    """
    chosen = request.format_for(path)
    if lacks and chosen != "dockerfile":
        _refuse_lacking(lacks)
    text = None if chosen == "dockerfile" else _TEXTS[chosen](environment, request)
    with _telling(path):
        target = Path(path).expanduser().resolve()
        if not overwrite:
            _refuse_foreign(target)
        if text is None:
            text = _with_requirements(environment, request, target, overwrite=overwrite)
        _replace(target, text)
    return target


def _python(environment: Environment, request: Request) -> str:
    return python_module(
        environment,
        source=request.source,
        when=request.when,
        registration=request.registration,
        flow=request.flow,
    )


_TEXTS: Mapping[str, Callable[[Environment, Request], str]] = {
    "python": _python,
    "json": json_document,
    "dask": dask_profile,
    "prefect": prefect_deployment,
}


def _with_requirements(
    environment: Environment, request: Request, target: Path, *, overwrite: bool
) -> str:
    """Write the list of packages beside a Dockerfile, and give the Dockerfile's text."""
    packages = requirements_file(target, overwrite=overwrite)
    text = dockerfile(environment, request, packages.name)
    if target.is_dir():
        raise IsADirectoryError(0, "it is a folder")
    _replace(packages, requirements_text(request, target.name))
    return text


@contextlib.contextmanager
def _telling(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(
            f"the export cannot be written to {str(path)!r} ({reason}); "
            "choose a file in a folder that exists and may be written"
        ) from error


def _refuse_lacking(lacks: Mapping[str, str]) -> None:
    told = ", ".join(f"{name} {version}".strip() for name, version in sorted(lacks.items()))
    it = "it" if len(lacks) == 1 else "them"
    pins = " ".join(f"{name}=={v}" if v else name for name, v in sorted(lacks.items()))
    raise ExportError(
        f"the workers' image lacks {told}, which a flow imports, so that it would fail in "
        f"production; add {it} to the image (Dask's own images take EXTRA_PIP_PACKAGES={pins!r}) "
        "and start the cluster again, or export all the same (--allow-missing, allow_missing=True)"
    )


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    small = target.is_file() and target.stat().st_size <= _LARGEST
    if not small or not untouched(target.read_bytes().decode("utf-8", "replace")):
        raise ExportError(
            f"{target} exists and is not an unedited export, so it is left as it is; "
            "choose another name, or say overwrite (--overwrite, overwrite=True)"
        )


def _replace(target: Path, code: str) -> None:
    """Put `code` in the file's place in one step, with the rights that the file had."""
    if target.is_dir():
        raise IsADirectoryError(0, "it is a folder")
    if target.exists():
        mode = stat.S_IMODE(target.stat().st_mode)
        if not os.access(target, os.W_OK):
            raise PermissionError(0, "it is write-protected")
    else:
        mode = 0o644
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:80]}.", dir=target.parent)
    with contextlib.ExitStack() as undo:
        undo.callback(Path(name).unlink, missing_ok=True)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(code)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(target)
