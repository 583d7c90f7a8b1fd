"""Secrets inside settings: held while the process lives, never written down.

A string under a key that names a secret (``password``, ``api_token``, ``aws_secret_access_key``),
or one that holds a PEM private key or an address with a password, is wrapped in a `Secret` when an
environment is made. What is written down is the name of a process variable, from which the secret
is read later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import EnvironmentValueError, SecretMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_SECRET_KEY = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|secret|token|credentials?|private_?key|api_?key)s?(?:_|$)"
    r"|(?:^|_)secret_.*|access_key$|session_token$",
    re.IGNORECASE,
)
_PEM_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^/\s:@]*:)[^/\s@]+@", re.IGNORECASE)


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A secret, known by the process variable that it is read from.

    Two secrets are equal when they are read from the same variable; the value itself takes no
    part in equality, fingerprints, `repr` or exports.

    Parameters
    ----------
    env_var : str
        The process variable that holds the secret wherever the value is not at hand.
    value : str, optional
        The secret itself, for this process only.

    Raises
    ------
    EnvironmentValueError
        `env_var` could not name a process variable.

    Examples
    --------
    >>> Secret("GATEWAY_PASSWORD", "hunter2")
    Secret('GATEWAY_PASSWORD')
    """

    env_var: str
    value: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.env_var, str) or not _VARIABLE.fullmatch(self.env_var):
            raise EnvironmentValueError(
                f"{self.env_var!r} cannot name a process variable; "
                "use letters, digits and '_', no digit first"
            )

    def __repr__(self) -> str:
        return f"Secret({self.env_var!r})"

    def reveal(self, process_variables: Mapping[str, str]) -> str:
        """Give the secret itself.

        Raises
        ------
        SecretMissing
            There is no value, and the process variable is not set.
        """
        if self.value is not None:
            return self.value
        try:
            return process_variables[self.env_var]
        except KeyError as error:
            raise SecretMissing(
                f"a secret is to be read from the process variable {self.env_var}, which is not "
                "set; set it and try again"
            ) from error


def conceal(value: Any, *, path: tuple[str, ...] = ()) -> Any:
    """Copy settings with every string that looks like a secret wrapped in a `Secret`.

    `path` holds the keys that lead to `value`; the process variable is named after them.

    Examples
    --------
    >>> conceal({"password": "hunter2", "username": "ada"})
    {'password': Secret('DASKENV_PASSWORD'), 'username': 'ada'}
    """
    if isinstance(value, dict):
        return {
            k: conceal(v, path=(*path, k) if isinstance(k, str) else path) for k, v in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(conceal(v, path=path) for v in value) if _plain(value) else value
    if isinstance(value, bytes) and value and path and _names_secret(path[-1]):
        raise EnvironmentValueError(
            f"the secret {path[-1]!r} is given as bytes; give it as text, or as a Secret"
        )
    if isinstance(value, str) and value:
        holds = _PEM_PRIVATE_KEY.search(value) or _URL_PASSWORD.search(value)
        if holds or (path and _names_secret(path[-1])):
            return Secret(_variable_of(path), value)
    return value


def reveal(value: Any, process_variables: Mapping[str, str]) -> Any:
    """Copy settings with every `Secret` replaced by what it stands for.

    Raises
    ------
    SecretMissing
        A process variable that should hold a secret is not set.
    """
    if isinstance(value, Secret):
        return value.reveal(process_variables)
    if isinstance(value, dict):
        return {k: reveal(v, process_variables) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and _plain(value):
        return type(value)(reveal(v, process_variables) for v in value)
    return value


def forget(value: Any) -> Any:
    """Copy settings with every `Secret` known by its process variable alone."""
    if isinstance(value, Secret):
        return Secret(value.env_var)
    if isinstance(value, dict):
        return {k: forget(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and _plain(value):
        return type(value)(forget(v) for v in value)
    return value


def secrets_in(value: Any) -> Iterator[Secret]:
    """Yield each `Secret` in a tree of settings."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from secrets_in(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from secrets_in(item)


def mask(text: str) -> str:
    """Hide the password inside each address with one, as in ``https://user:***@host``.

    Examples
    --------
    >>> mask("https://ada:hunter2@gateway.example.org")
    'https://ada:***@gateway.example.org'
    """
    return _URL_PASSWORD.sub(r"\g<head>***@", text)


def _plain(value: Collection[Any]) -> bool:
    """Tell a list, tuple or set from a subclass, whose constructor may want something else."""
    return type(value) in (list, tuple, set, frozenset)


def _names_secret(key: str) -> bool:
    return _SECRET_KEY.search(key.replace("-", "_")) is not None


def _variable_of(path: tuple[str, ...]) -> str:
    word = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(path)).strip("_").upper()
    return f"DASKENV_{word or 'SECRET'}"
