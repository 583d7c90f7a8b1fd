"""No export holds a secret: what would put a password or a key into a file is refused."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from daskenv_lab.environments.secret import mask
from daskenv_lab.errors import EnvironmentValueError, ExportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from daskenv_lab.environments import Environment


def written(environment: Environment) -> dict[str, Any]:
    """Give the written form of an environment, which holds no secret.

    Raises
    ------
    ExportError
        A setting has no written form, or holds a secret in the open.
    """
    try:
        form = environment.to_dict()
    except EnvironmentValueError as error:
        raise ExportError(f"the environment cannot be exported: {error}") from error
    refuse_open_secrets(form["arguments"])
    return form


def variables(environment: Environment) -> list[str]:
    """Name the process variables that an environment's secrets are read from."""
    return sorted({secret.env_var for secret in environment.secrets})


def refuse_open_secrets(arguments: Mapping[str, Any]) -> None:
    """Refuse what would put a password or a key into the file.

    Raises
    ------
    ExportError
        There is such a thing; it is named, and not shown.
    """
    for name, value in arguments.items():
        for found in _texts(value):
            if mask(found) != found:
                raise ExportError(
                    f"{name} holds an address with a password in it ({mask(found)!r:.120}), and an "
                    "export holds no secrets; take the password out of the address and give it as "
                    "an argument of its own, such as auth={'type': 'basic', 'password': ...}"
                )
            if "PRIVATE KEY-----" in found:
                raise ExportError(
                    f"{name} holds a private key as bytes, and an export holds no secrets; give "
                    "the path of a file, or the key as text"
                )


def _texts(form: Any) -> Iterable[str]:
    if isinstance(form, str):
        yield form
    elif isinstance(form, dict):
        if set(form) == {"$bytes"}:
            yield base64.b64decode(form["$bytes"]).decode("latin-1")
        for key, value in form.items():
            yield key
            yield from _texts(value)
    elif isinstance(form, list):
        for value in form:
            yield from _texts(value)
