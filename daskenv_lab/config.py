"""Resolve configuration once: an argument, then Dask's ``daskenv:`` keys, then the default.

This is the only module that reads ``dask.config`` under ``daskenv:`` or the process
variables. ``daskenv.yaml`` beside it comments every key.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import yaml

from daskenv_lab.environments import profile_arguments, reveal
from daskenv_lab.errors import (
    ConfigError,
    EnvironmentValueError,
    StateError,
    UnknownNameError,
    did_you_mean,
)

try:
    import dask.config
    from dask.utils import parse_bytes, parse_timedelta
except (OSError, ValueError, yaml.YAMLError) as error:
    # Dask reads all of its YAML files when it is imported.
    told = " ".join(str(error).split())
    raise ConfigError(f"Dask's configuration cannot be read: {told}; mend that file") from error

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULTS_FILE = Path(__file__).with_name("daskenv.yaml")

KINDS = ("local", "gateway", "fargate", "ecs", "remote")
"""The kinds that `up` knows without a profile."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

_DEFAULTS: dict[str, Any] = yaml.safe_load(DEFAULTS_FILE.read_text(encoding="utf-8"))


def _misplaced(given: Any, defaults: dict[str, Any], path: str = "") -> list[str]:
    """Name the keys that hold a plain value where there are keys below; Dask ignores them."""
    found = []
    for key, default in defaults.items():
        value = given.get(key, given.get(key.replace("-", "_"))) if given else None
        if isinstance(default, dict) and value is not None:
            inner = f"{path}{key}"
            fits = isinstance(value, dict)
            found += _misplaced(value, default, f"{inner}.") if fits else [f"{inner}={value!r}"]
    return found


# Before the defaults are merged, which takes such values away without a word.
_MISPLACED = _misplaced(dask.config.config, _DEFAULTS)

dask.config.update_defaults(_DEFAULTS)


def get(key: str) -> Any:
    """Look up ``daskenv.<key>``.

    Raises
    ------
    ConfigError
        The key does not exist.

    Examples
    --------
    >>> get("profile")
    'local'
    """
    if _MISPLACED:
        raise ConfigError(
            f"the configuration has {_MISPLACED[0]}, where there should be keys below; see "
            f"{DEFAULTS_FILE}, and look into DASK_DASKENV variables and Dask's YAML files"
        )
    try:
        return dask.config.get(f"daskenv.{key}")
    except KeyError as error:
        raise ConfigError(
            f"the configuration has no key 'daskenv.{key}'; {DEFAULTS_FILE} lists the keys"
        ) from error


def seconds(key: str) -> float:
    """Look up a duration such as ``"5 minutes"`` (or a number of seconds), in seconds.

    Raises
    ------
    ConfigError
        The value is no duration.

    Examples
    --------
    >>> seconds("timeouts.connect")
    30.0
    """
    value = get(key)
    try:
        return float(parse_timedelta(value))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"daskenv.{key} is {value!r}, which is no duration; write it as '30 seconds'"
        ) from error


def size(key: str) -> int:
    """Look up a size such as ``"2 GiB"`` (or a number of bytes), in bytes.

    Raises
    ------
    ConfigError
        The value is no size.

    Examples
    --------
    >>> size("local.worker-memory")
    2147483648
    """
    value = get(key)
    try:
        return int(parse_bytes(value))
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"daskenv.{key} is {value!r}, which is no size; write it as '2 GiB'"
        ) from error


def whole(key: str) -> int:
    """Look up a whole number that is not negative.

    Raises
    ------
    ConfigError
        The value is something else.

    Examples
    --------
    >>> whole("workers")
    2
    """
    value = get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"daskenv.{key} is {value!r}; it takes a whole number from 0 upwards")
    return value


def flag(key: str) -> bool:
    """Look up a yes or no.

    Raises
    ------
    ConfigError
        The value is something else.

    Examples
    --------
    >>> flag("debug")
    False
    """
    value = get(key)
    if not isinstance(value, bool):
        raise ConfigError(f"daskenv.{key} is {value!r}; it takes true or false")
    return value


def words(key: str) -> tuple[str, ...]:
    """Look up a list of words.

    Raises
    ------
    ConfigError
        The value is something else.

    Examples
    --------
    >>> words("packages.pip-options")
    ()
    """
    value = get(key)
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise ConfigError(f"daskenv.{key} is {value!r}; it takes a list of words, as in ['a', 'b']")
    return tuple(value)


def state_dir() -> Path:
    """Give the folder of records and background servers, made for this user alone.

    Raises
    ------
    StateError
        The folder cannot be made or written.
    """
    chosen = get("state-dir")
    folder = (
        Path(str(chosen)).expanduser()
        if chosen
        else platformdirs.user_state_path("daskenv_lab", appauthor=False)
    )
    if not folder.is_absolute():
        raise ConfigError(
            f"daskenv.state-dir is {str(chosen)!r}; it takes a whole path, or each folder that you "
            "work in would have a state of its own"
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "it is not writable")
    except OSError as error:
        raise StateError(
            f"the state folder {folder} cannot be used ({error.strerror or error}); "
            "name another with DASK_DASKENV__STATE_DIR or daskenv.state-dir"
        ) from error
    return folder


def cluster_name(name: str | None) -> str:
    """Check a name for a cluster of ours, or give the default name.

    Raises
    ------
    ConfigError
        The name could not be a file name, a tag and an argument all at once.

    Examples
    --------
    >>> cluster_name("dev")
    'dev'
    """
    chosen = get("name") if name is None else name
    if not isinstance(chosen, str) or not _NAME.fullmatch(chosen):
        raise ConfigError(
            f"{chosen!r} cannot name a cluster; use up to 63 letters, digits, '.', '_' and '-', "
            "a letter or digit first"
        )
    return chosen


def owner() -> str:
    """Give ``user@host`` (or ``daskenv.owner``), as it stands in the label of our clusters.

    Raises
    ------
    ConfigError
        ``daskenv.owner`` is no text.
    """
    chosen = get("owner")
    if chosen is None:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    if not isinstance(chosen, str) or not chosen.strip():
        raise ConfigError(f"daskenv.owner is {chosen!r}; write it as 'ada@laptop'")
    return chosen.strip()


def profile_names() -> tuple[str, ...]:
    """List the profiles of the configuration and the kinds, in the order of the alphabet."""
    return tuple(sorted({*_profiles(), *KINDS}))


def profile(name: str | None = None) -> tuple[str, dict[str, Any]]:
    """Resolve a profile, a kind, or a class's dotted path to a kind and its arguments.

    Parameters
    ----------
    name : str, optional
        By default what ``daskenv.profile`` says.

    Returns
    -------
    tuple of str and dict
        The kind, and the keyword arguments for an environment of that kind.

    Raises
    ------
    ConfigError
        The profile is damaged.
    UnknownNameError
        There is no such profile; the nearest is named.

    Examples
    --------
    >>> profile("fargate")
    ('fargate', {})
    """
    chosen = str(get("profile") if name is None else name)
    profiles = _profiles()
    if chosen not in profiles:
        if chosen in KINDS or "." in chosen:
            return chosen, _kind_defaults(chosen)
        raise UnknownNameError(
            f"no profile or kind is named {chosen!r}; {did_you_mean(chosen, profile_names())}"
        )
    settings = profiles[chosen]
    if not isinstance(settings, dict) or not isinstance(settings.get("kind"), str):
        raise ConfigError(
            f"the profile {chosen!r} needs a mapping with a 'kind' "
            f"({', '.join(KINDS)}, or a class's dotted path), and is {settings!r}"
        )
    kind = settings["kind"]
    if kind not in KINDS and "." not in kind:
        raise ConfigError(
            f"the profile {chosen!r} has the kind {kind!r}; {did_you_mean(kind, KINDS)}"
        )
    try:
        own = profile_arguments(settings)
    except EnvironmentValueError as error:
        raise ConfigError(f"the profile {chosen!r} cannot be used: {error}") from error
    return kind, {**_kind_defaults(kind), **own}


def resolve_secrets(value: Any) -> Any:
    """Give a copy of `value` with each secret put in, from its value or process variable.

    Raises
    ------
    SecretMissing
        A process variable that should hold a secret is not set.
    """
    return reveal(value, os.environ)


def process_variables(**changes: str) -> dict[str, str]:
    """Copy this process's variables for a child process, with some of them changed."""
    return {**os.environ, **changes}


def _profiles() -> Mapping[str, Any]:
    found = get("profiles")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"daskenv.profiles must map names to settings, and is {found!r}")
    return found


def _kind_defaults(kind: str) -> dict[str, Any]:
    if kind != "gateway":
        return {}
    defaults = {"gateway_address": get("gateway.address"), "auth": get("gateway.auth")}
    return {key: value for key, value in defaults.items() if value is not None}
