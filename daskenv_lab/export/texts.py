"""An environment as the text of a JSON file, of a profile for Dask, or of a Prefect deployment."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from daskenv_lab.environments.base import HOOKS
from daskenv_lab.environments.profile import to_profile
from daskenv_lab.errors import ExportError
from daskenv_lab.export.imports import offered
from daskenv_lab.export.secrets import refuse_open_secrets, variables, written
from daskenv_lab.export.signature import comment, paragraphs, signed
from daskenv_lab.export.yaml_text import yaml_text

if TYPE_CHECKING:
    from daskenv_lab.environments import Environment
    from daskenv_lab.export.request import Request

VARIABLE = "DASKENV_ENVIRONMENT"
"""The process variable from which a flow run's environment is read."""

_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def json_document(environment: Environment, request: Request) -> str:
    """Write the environment's written form as JSON, signed in a key of its own.

    Raises
    ------
    ExportError
        A setting has no written form, or holds a secret in the open.
    """
    said = {
        "written_by": " ".join(paragraphs(request.source, request.when)),
        "secrets": variables(environment),
    }
    form = {**said, **portable(environment)}
    return signed(json.dumps(form, indent=2, allow_nan=False) + "\n")


def dask_profile(environment: Environment, request: Request) -> str:
    """Write the environment as a profile for Dask's configuration, in YAML.

    Raises
    ------
    ExportError
        A setting has no written form, or the profile has no name that Dask's keys can hold.
    """
    name = request.profile
    if not isinstance(name, str) or not _PROFILE.fullmatch(name):
        raise ExportError(
            f"{name!r:.80} cannot name a profile; give one of letters, digits, '.', '_' and '-' "
            "(--profile, profile=...)"
        )
    portable(environment)
    head = _head(
        environment,
        request,
        f"Put this file into ~/.config/dask, and take it with `daskenv up {name}`.",
    )
    profiles = {name: to_profile(environment)}
    return signed(f"{head}\n{yaml_text({'daskenv': {'profiles': profiles}})}")


def prefect_deployment(environment: Environment, request: Request) -> str:
    """Write a ``prefect.yaml`` with one deployment, whose runs have the environment.

    Raises
    ------
    ExportError
        A setting has no written form, the flow's entry point is missing, or Prefect would take a
        label for a template.
    """
    if not request.entrypoint:
        raise ExportError(
            f"the format 'prefect' was asked for with entrypoint={request.entrypoint!r}; say where "
            "the flow is, such as 'flows.py:etl' (--entrypoint, entrypoint=...)"
        )
    _refuse_templates(environment)
    entry: dict[str, Any] = {
        "name": request.name or request.entrypoint.rpartition(":")[2],
        "entrypoint": request.entrypoint,
        "description": request.description,
        "tags": list(environment.labels) or None,
        "parameters": None if request.parameters is None else dict(request.parameters),
    }
    pool = {} if request.work_pool_name is None else {"name": request.work_pool_name}
    given = {k: v for k, v in entry.items() if v is not None}
    _refuse_unwritable(given)
    refuse_open_secrets(given)
    given["work_pool"] = {**pool, "job_variables": {"env": {VARIABLE: one_line(environment)}}}
    head = _head(environment, request, "Deploy it with `prefect deploy`.")
    return signed(f"{head}\n{yaml_text({'deployments': [given]})}")


def one_line(environment: Environment) -> str:
    """Write the environment as JSON in one line of ASCII, in which Prefect finds no template.

    Prefect fills in ``{{ name }}`` and ``{{ $NAME }}`` wherever they occur:
    https://docs.prefect.io/v3/how-to-guides/deployments/prefect-yaml

    Raises
    ------
    ExportError
        A setting has no written form, or holds a secret in the open.

    Examples
    --------
    >>> from daskenv_lab import DaskGatewayEnvironment
    >>> "{{" in one_line(DaskGatewayEnvironment("local", note="{{ prefect.variables.x }}"))
    False
    """
    text = json.dumps(portable(environment), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _JSON_TEXT.sub(lambda found: _without_templates(found[0]), text)


def portable(environment: Environment) -> dict[str, Any]:
    """Give the written form of an environment that can be read without code of the user's.

    Raises
    ------
    ExportError
        A setting has no written form, holds a secret in the open, or the class is not ours.
    """
    cls = type(environment)
    if not cls.__module__.startswith("daskenv_lab."):
        raise ExportError(
            f"the environment is a {cls.__qualname__} of {cls.__module__}, of which only a Python "
            "module can make another; export it as one (--format python, format='python')"
        )
    for name in HOOKS:
        hook = getattr(environment, name)
        if hook is not None and not offered(hook):
            raise ExportError(
                f"the hook {name} is {getattr(hook, '__qualname__', hook)!r}, which no module that "
                "another process finds offers; export a Python module, which holds its source "
                "(--format python, format='python'), or move it to a module"
            )
    return written(environment)


def _head(environment: Environment, request: Request, *further: str) -> str:
    return comment(request.source, request.when, variables(environment), *further)


def _without_templates(text: str) -> str:
    for char in "{}$":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _refuse_templates(environment: Environment) -> None:
    for label in environment.labels:
        if "{{" in label:
            raise ExportError(
                f"the label {label!r:.80} would become a tag, in which Prefect fills in what "
                "stands between '{{' and '}}'; rename it"
            )


def _refuse_unwritable(entry: Any) -> None:
    """Refuse what is not of JSON's types, as which Prefect stores a deployment."""
    try:
        same = json.loads(json.dumps(entry, allow_nan=False)) == entry
    except (TypeError, ValueError, RecursionError) as error:
        raise ExportError(
            f"the deployment {entry!r:.120} cannot be stored by Prefect ({error}); "
            "give parameters that are numbers, text, lists and mappings"
        ) from error
    if not same:
        raise ExportError(
            f"the deployment {entry!r:.120} would come back from Prefect as another one; "
            "give parameters that are numbers, text, lists and mappings with texts as keys"
        )
