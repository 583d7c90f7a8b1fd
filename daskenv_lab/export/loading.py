"""Read an environment from a file that was exported, without running code from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from daskenv_lab.environments import environment_of_kind, from_dict, profile_arguments
from daskenv_lab.errors import DaskEnvLabError, EnvironmentValueError, ExportError, did_you_mean
from daskenv_lab.export.texts import VARIABLE

if TYPE_CHECKING:
    from daskenv_lab.environments import Environment

_LARGEST = 10_000_000
"""Bytes; a file beyond this is no export of ours and is not read."""


def load(
    path: str | Path, *, profile: str | None = None, deployment: str | None = None
) -> Environment:
    """Read the environment from a file in one of the formats ``json``, ``dask`` or ``prefect``.

    Nothing in the file is run; only functions and classes that it names, such as hooks, are
    imported.

    Parameters
    ----------
    path : str or Path
        The file.
    profile : str, optional
        Which profile, if a file for Dask holds several.
    deployment : str, optional
        Which deployment, if a ``prefect.yaml`` holds several.

    Raises
    ------
    ExportError
        The file cannot be read, or holds no environment.
    EnvironmentValueError
        What it holds is damaged.

    Examples
    --------
    >>> daskenv_lab.load("environment.json")  # doctest: +SKIP
    DaskGatewayEnvironment(gateway_address='local', n_workers=2)
    """
    held = _read(path)
    try:
        return _environment(held, profile, deployment)
    except RecursionError as error:
        raise EnvironmentValueError(
            f"{str(path)!r} is damaged: its settings lie too deep in one another; export it again"
        ) from error
    except DaskEnvLabError as error:
        raise type(error)(f"{str(path)!r} cannot be loaded: {error}") from error


def _read(path: str | Path) -> Any:
    file = Path(path)
    if file.suffix == ".py":
        raise ExportError(f"{str(path)!r} is a Python module; import it instead of loading it")
    try:
        file = file.expanduser()
        if file.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes")
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(
            f"{str(path)!r} cannot be read ({reason}); "
            "give a file that was exported as json, dask or prefect"
        ) from error
    try:
        return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError, OverflowError) as error:
        kind = "JSON" if file.suffix == ".json" else "YAML"
        said = " ".join(str(error).split())
        raise EnvironmentValueError(
            f"{str(path)!r} is damaged: it is no {kind} ({said:.200}); mend it, or export it again"
        ) from error


def _environment(held: Any, profile: str | None, deployment: str | None) -> Environment:
    if isinstance(held, Mapping):
        if "deployments" in held:
            return _of_deployment(held["deployments"], deployment)
        if "daskenv" in held:
            return _of_profile(held["daskenv"], profile)
        if "arguments" in held:
            return from_dict(held)
    raise ExportError(
        f"it holds {held!r:.80}, and no environment; "
        "give a file that was exported as json, dask or prefect"
    )


def _of_profile(held: Any, name: str | None) -> Environment:
    profiles = held.get("profiles") if isinstance(held, Mapping) else None
    if not isinstance(profiles, Mapping) or not profiles:
        raise EnvironmentValueError(
            f"'daskenv' holds {held!r:.80}, and no profiles; export it again"
        )
    chosen, settings = _one({str(k): v for k, v in profiles.items()}, name, "profile")
    if not isinstance(settings, Mapping) or not isinstance(settings.get("kind"), str):
        raise EnvironmentValueError(
            f"the profile {chosen!r} is {settings!r:.80}, and needs a mapping with a 'kind'; "
            "export it again"
        )
    return environment_of_kind(settings["kind"], profile_arguments(settings))


def _of_deployment(held: Any, name: str | None) -> Environment:
    entries = held if isinstance(held, list) else []
    named = {str(e.get("name")): e for e in entries if isinstance(e, Mapping)}
    if not named:
        raise EnvironmentValueError(
            f"'deployments' is {held!r:.80}, and lists none; export it anew"
        )
    chosen, at = _one(named, name, "deployment")
    for key in ("work_pool", "job_variables", "env", VARIABLE):
        at = at.get(key) if isinstance(at, Mapping) else None
    if not isinstance(at, str):
        raise ExportError(
            f"the deployment {chosen!r} gives its runs no {VARIABLE} among its job variables, and "
            "so no environment; choose another, or export it again"
        )
    try:
        written = json.loads(at)
    except (ValueError, RecursionError) as error:
        raise EnvironmentValueError(
            f"{VARIABLE} of the deployment {chosen!r} is no JSON ({error}); export it again"
        ) from error
    return from_dict(written)


def _one(named: Mapping[str, Any], name: str | None, noun: str) -> tuple[str, Any]:
    """Choose the one of that name, or the only one."""
    if name is None and len(named) == 1:
        return next(iter(named.items()))
    if name is None:
        known = ", ".join(sorted(named))
        raise ExportError(f"it holds the {noun}s {known}; choose one with {noun}={min(named)!r}")
    if name not in named:
        raise ExportError(f"it holds no {noun} {name!r}; {did_you_mean(name, named)}")
    return name, named[name]
