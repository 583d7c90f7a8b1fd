"""An environment as a profile of Dask's configuration, and back.

Dask takes ``-`` and ``_`` in keys for the same, and whoever reads its configuration may have it
put process variables in for ``$NAME``; Python's Windows takes ``%NAME%`` too. What either would
change stands under one of the codec's tags.
https://docs.dask.org/en/stable/configuration.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from daskenv_lab.environments.codec import decode, encode
from daskenv_lab.environments.kinds import kind_of
from daskenv_lab.errors import EnvironmentValueError

if TYPE_CHECKING:
    from daskenv_lab.environments.base import Environment

_FURTHER = "$map"
"""The key of a profile for the arguments whose names are no plain words."""

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_REPLACED = "$%"


def to_profile(environment: Environment) -> dict[str, Any]:
    r"""Write the settings of a profile, in JSON's types and without what Dask would change.

    Raises
    ------
    EnvironmentValueError
        An argument has no written form, such as a lambda or an open connection.

    Examples
    --------
    >>> from daskenv_lab import DaskGatewayEnvironment
    >>> to_profile(DaskGatewayEnvironment("local", folder="$HOME"))
    {'kind': 'local', 'folder': {'$text': '\\u0024HOME'}}
    """
    kind, arguments = kind_of(environment)
    written = {k: sheltered(encode(v, where=k)) for k, v in sorted(arguments.items())}
    plain = {k: v for k, v in written.items() if _WORD.fullmatch(k) and k != "kind"}
    odd = [[sheltered(k), v] for k, v in written.items() if k not in plain]
    return {"kind": kind, **plain, **({_FURTHER: odd} if odd else {})}


def profile_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    r"""Read the arguments of an environment from a profile, whoever wrote it.

    Raises
    ------
    EnvironmentValueError
        A setting is damaged, or names what cannot be imported.

    Examples
    --------
    >>> profile_arguments({"kind": "local", "n-workers": 2, "folder": {"$text": "\\u0024HOME"}})
    {'n_workers': 2, 'folder': '$HOME'}
    """
    kept = {k: v for k, v in settings.items() if k not in ("kind", _FURTHER)}
    # Dask's configuration takes hyphens and underscores for the same key; arguments do not.
    own = {str(k).replace("-", "_"): decode(v) for k, v in kept.items()}
    further = decode({_FURTHER: settings[_FURTHER]}) if _FURTHER in settings else {}
    if not all(isinstance(name, str) for name in further):
        raise EnvironmentValueError(
            f"the profile's {_FURTHER!r} is {settings[_FURTHER]!r:.80}; "
            "it takes a list of pairs, each of an argument's name and its value"
        )
    return {**own, **further}


def sheltered(written: Any) -> Any:
    """Copy encoded settings with a tag around whatever would be changed on the way.

    Examples
    --------
    >>> sheltered({"a-b": 1, "a_b": 2})
    {'$map': [['a-b', 1], ['a_b', 2]]}
    """
    if isinstance(written, str):
        return written if _survives(written) else {"$text": _escaped(written)}
    if isinstance(written, list):
        return [sheltered(item) for item in written]
    if not isinstance(written, Mapping):
        return written
    if any(key.startswith("$") for key in written) or _tells_apart(written):
        return {key: sheltered(value) for key, value in written.items()}
    return {"$map": [[sheltered(k), sheltered(v)] for k, v in written.items()]}


def _survives(text: str) -> bool:
    plain = text.replace("\n", "").replace("\t", "")
    return plain.isprintable() and not any(c in text for c in _REPLACED)


def _tells_apart(written: Mapping[str, Any]) -> bool:
    """Tell whether Dask keeps each key of a mapping."""
    same = {key.replace("-", "_") for key in written}
    return len(same) == len(written) and all(_survives(key) for key in written)


def _escaped(text: str) -> str:
    """Write a text with JSON's escapes, in ASCII."""
    escaped = json.dumps(text)[1:-1]
    for char in _REPLACED:
        escaped = escaped.replace(char, f"\\u{ord(char):04x}")
    return escaped
