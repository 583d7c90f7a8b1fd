"""Settings to JSON and back, without loss.

JSON's own types are kept as they are. Everything else becomes a mapping with one key that starts
with ``$``: ``$tuple``, ``$set``, ``$frozenset``, ``$bytes``, ``$timedelta``, ``$map`` (keys that
JSON lacks, or that start with ``$``), ``$object`` (a class or function by its path), ``$secret``,
``$float`` (``nan``, ``inf``, ``-inf``) and ``$int`` (in hexadecimal digits, beyond what JSON's
readers take). ``$text`` is only read here: `daskenv_lab.environments.profile` writes it.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import math
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from daskenv_lab.environments.secret import Secret
from daskenv_lab.errors import EnvironmentValueError

if TYPE_CHECKING:
    from collections.abc import Callable

_WIDEST_INT = 1024
"""Bits; Python itself refuses to read or write decimal numbers of some thousand digits."""


def encode(value: Any, *, where: str, strict: bool = True) -> Any:
    """Turn a setting into JSON's types.

    Parameters
    ----------
    value : object
        The setting.
    where : str
        What to call it in an error.
    strict : bool
        False replaces what cannot be written by ``{"$opaque": <its type>}``, for fingerprints.

    Raises
    ------
    EnvironmentValueError
        The value, or something in it, has no written form.

    Examples
    --------
    >>> encode((1, b"x"), where="extra")
    {'$tuple': [1, {'$bytes': 'eA=='}]}
    """
    if value is None or isinstance(value, bool | int | float | str):
        # A subclass (an enum's member, numpy's float64) is carried as its plain value.
        return _number(_plain(value))

    def inner(item: Any) -> Any:
        return encode(item, where=where, strict=strict)

    match value:
        case Secret():
            return {"$secret": value.env_var}
        case list():
            return [inner(v) for v in value]
        case tuple():
            return {"$tuple": [inner(v) for v in value]}
        case set() | frozenset():
            members = sorted((inner(v) for v in value), key=canonical)
            return {"$frozenset" if isinstance(value, frozenset) else "$set": members}
        case bytes():
            return {"$bytes": base64.b64encode(value).decode("ascii")}
        case timedelta():
            return {"$timedelta": [value.days, value.seconds, value.microseconds]}
        case dict():
            if all(isinstance(k, str) and not k.startswith("$") for k in value):
                return {str(k): inner(v) for k, v in value.items()}
            return {"$map": [[inner(k), inner(v)] for k, v in value.items()]}
    path = importable_path(value)
    if path is not None:
        return {"$object": path}
    if not strict:
        return {"$opaque": f"{type(value).__module__}.{type(value).__qualname__}"}
    if callable(value):
        raise EnvironmentValueError(
            f"{where} is {getattr(value, '__qualname__', value)!r}, which no module offers by that "
            "name; move it to the top level of a module that can be imported"
        )
    raise EnvironmentValueError(
        f"{where} holds a {type(value).__qualname__}, which cannot be written down; "
        "give plain values (numbers, text, lists, mappings) instead"
    )


def decode(value: Any) -> Any:
    """Turn what `encode` wrote back into the setting.

    Raises
    ------
    EnvironmentValueError
        The tag is not known, its content is damaged, or the named object cannot be imported.

    Examples
    --------
    >>> decode({"$tuple": [1, {"$bytes": "eA=="}]})
    (1, b'x')
    """
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        tag, content = next(iter(value.items()))
        if isinstance(tag, str) and tag.startswith("$"):
            if tag not in _DECODERS:
                raise EnvironmentValueError(
                    f"the written setting has the tag {tag!r}, which this version does not know; "
                    "update daskenv_lab"
                )
            return _decoded(tag, content)
    return {k: decode(v) for k, v in value.items()}


def _decoded(tag: str, content: Any) -> Any:
    try:
        return _DECODERS[tag](content)
    except EnvironmentValueError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise EnvironmentValueError(
            f"the written setting {{{tag!r}: {content!r:.80}}} is damaged ({error}); "
            "mend it, or export the environment again"
        ) from error


def importable_path(value: Any) -> str | None:
    """Name a class or function as ``module:qualname``, if importing that gives the same object."""
    module = getattr(value, "__module__", None)
    qualname = getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__":
        return None
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return f"{module}:{qualname}" if found is value else None


def fingerprint(written: Any) -> str:
    """Condense encoded settings into 16 hexadecimal digits, the same in every process."""
    return hashlib.sha256(canonical(written).encode("utf-8")).hexdigest()[:16]


def _import_path(path: Any) -> Any:
    module, _, qualname = str(path).partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise EnvironmentValueError(
            f"the written setting names {path!r}, which cannot be imported here ({error}); "
            "install or write the module that holds it"
        ) from error
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str.__str__(value)  # Of an enum's member, str() gives its name.
    for base in (bool, int, float):
        if isinstance(value, base):
            return base(value)
    return None


def _number(value: Any) -> Any:
    """Give a number that JSON's readers take, or its tagged form."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, int) and value.bit_length() > _WIDEST_INT:
        return {"$int": hex(value)}
    return value


def _text(escaped: Any) -> str:
    """Read a text in which JSON's escapes stand for what would be replaced or lost on the way."""
    if not isinstance(escaped, str):
        raise TypeError("it takes a text")
    return str(json.loads(f'"{escaped}"'))


def canonical(written: Any) -> str:
    """Give encoded settings as text that is equal for equal settings only."""
    return json.dumps(written, sort_keys=True, separators=(",", ":"))


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "$secret": Secret,
    "$text": _text,
    "$float": float,
    "$int": lambda c: int(c, 16),
    "$tuple": lambda c: tuple(decode(v) for v in c),
    "$set": lambda c: {decode(v) for v in c},
    "$frozenset": lambda c: frozenset(decode(v) for v in c),
    "$bytes": base64.b64decode,
    "$timedelta": lambda c: timedelta(*c),
    "$map": lambda c: {decode(k): decode(v) for k, v in c},
    "$object": _import_path,
}
