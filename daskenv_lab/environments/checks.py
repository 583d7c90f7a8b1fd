"""Checks of the arguments that all environments take, each with a sentence of its own."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from daskenv_lab.environments.secret import conceal, mask
from daskenv_lab.errors import EnvironmentValueError

Hook = Callable[..., None]
"""Called around a flow run in production: ``on_start()``, ``on_exit()``, and
``on_execute(parameters, provider_kwargs)``, which may change ``provider_kwargs`` in place."""


def text(owner: str, name: str, value: Any, *, hint: str) -> str:
    """Check that an argument is a text that is not empty.

    Raises
    ------
    EnvironmentValueError
        It is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise EnvironmentValueError(f"{owner} was given {name}={shown(value)}; {hint}")
    return value


def count(owner: str, name: str, value: Any, *, least: int) -> int | None:
    """Check a whole number, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise EnvironmentValueError(
            f"{owner} was given {name}={shown(value)}; it takes a whole number from {least} "
            "upwards, or None"
        )
    return value


def bounds(owner: str, low: Any, high: Any) -> tuple[int | None, int | None]:
    """Apply the Gateway environment's rule: no minimum is 1, no maximum is the minimum."""
    minimum = count(owner, "adaptive_min_workers", low, least=0)
    maximum = count(owner, "adaptive_max_workers", high, least=1)
    if minimum is None and maximum is None:
        return None, None
    minimum = 1 if minimum is None else minimum
    if maximum is None:
        maximum = count(owner, "adaptive_max_workers (the same as the minimum)", minimum, least=1)
    assert maximum is not None  # noqa: S101 - for the type checker
    if minimum > maximum:
        raise EnvironmentValueError(
            f"{owner} was given adaptive_min_workers={minimum} above "
            f"adaptive_max_workers={maximum}; swap the two"
        )
    return minimum, maximum


def security(owner: str, value: Any) -> bool | Mapping[str, Any] | None:
    """Check what stands for TLS; a `distributed.Security` is taken apart."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return mapping(owner, "security", value)
    # A distributed.Security, known by its way of listing itself, so as not to import distributed.
    names = getattr(type(value), "__slots__", None)
    if type(value).__name__ == "Security" and names:
        given = {name: getattr(value, name, None) for name in names}
        kept = {k: v for k, v in given.items() if v not in (None, {}) and not k.startswith("_")}
        if "tls_min_version" in kept:
            # An ssl.TLSVersion, which equals its number; only the number can be written down.
            kept["tls_min_version"] = int(kept["tls_min_version"])
        return mapping(owner, "security", kept)
    raise EnvironmentValueError(
        f"{owner} was given security={shown(value)}; it takes True, False, a "
        "distributed.Security, or a mapping of its arguments"
    )


def mapping(owner: str, name: str, value: Any) -> Mapping[str, Any]:
    """Check and copy a mapping with names as keys, its secrets wrapped."""
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise EnvironmentValueError(
            f"{owner} was given {name}={shown(value)}; it takes a mapping with names as keys"
        )
    path = (name,) if name == "security" else ()
    return MappingProxyType(conceal(copy.deepcopy(dict(value)), path=path))


def labels(owner: str, value: Any) -> tuple[str, ...]:
    """Check words; those of a set come in the order of the alphabet."""
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset):
        raise EnvironmentValueError(
            f"{owner} was given labels={shown(value)}; it takes a list of words"
        )
    words = tuple(sorted(value) if isinstance(value, set | frozenset) else value)
    if not all(isinstance(word, str) and word for word in words):
        raise EnvironmentValueError(
            f"{owner} was given labels={shown(value)}; each label is a text that is not empty"
        )
    return words


def hook(owner: str, name: str, value: Any) -> Hook | None:
    """Check that a hook can be called as it will be."""
    if value is None:
        return None
    if not callable(value):
        raise EnvironmentValueError(
            f"{owner} was given {name}={shown(value)}; it takes a function, without calling it"
        )
    wanted = {"on_execute": ("parameters", "provider_kwargs")}.get(name, ())
    function: Hook = value
    try:
        inspect.signature(function).bind(*wanted)
    except TypeError as error:
        raise EnvironmentValueError(
            f"{owner} was given {name}={shown(value)}, which cannot be called as "
            f"{name}({', '.join(wanted)}) ({error}); change its parameters"
        ) from error
    except ValueError:
        return function  # A builtin without a signature.
    return function


def shown(value: Any) -> str:
    """Represent an argument with its secrets masked, and not too long."""
    told = mask(repr(conceal(value) if isinstance(value, dict | list | tuple) else value))
    return told if len(told) <= 200 else f"{told[:197]}..."
