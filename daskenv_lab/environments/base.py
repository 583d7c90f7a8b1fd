"""What all environments share: sizes, security, hooks, labels, and their written form."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

from daskenv_lab.environments.codec import canonical, encode, fingerprint
from daskenv_lab.environments.secret import Secret, conceal, mask, secrets_in
from daskenv_lab.errors import EnvironmentValueError, nearest

Hook = Callable[..., None]
"""Called around a flow run in production: ``on_start()``, ``on_exit()``, and
``on_execute(parameters, provider_kwargs)``, which may change ``provider_kwargs`` in place."""

SCHEMA_VERSION = 1

HOOKS = ("on_start", "on_execute", "on_exit")


@dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class Environment:
    """The settings that every environment has.

    The arguments are those of Prefect 0.x's environments:
    https://docs.prefect.io/orchestration/execution/dask_cloud_provider_environment

    Two environments are equal when they are written down alike; a secret counts by the process
    variable that it is read from, not by its value.
    """

    kind: ClassVar[str]
    """The word for this class in the written form."""

    n_workers: int | None
    """Number of workers; None leaves it to the provider. Not together with adaptive bounds."""

    adaptive_min_workers: int | None
    """Least number of workers; given only the other bound, it is 1."""

    adaptive_max_workers: int | None
    """Greatest number of workers; given only the other bound, it is the same as that."""

    security: bool | Mapping[str, Any] | None
    """TLS for connections to the scheduler: None (what the provider does by itself), True, or the
    arguments of `distributed.Security`. A `Security` object is taken apart into those."""

    executor_kwargs: Mapping[str, Any]
    """Further arguments for the Dask client of the flow's executor."""

    labels: tuple[str, ...]
    """Words that tag the deployment."""

    on_execute: Hook | None
    on_start: Hook | None
    on_exit: Hook | None

    metadata: Mapping[str, Any]
    """Free notes, stored with the deployment."""

    extra: Mapping[str, Any]
    """What is passed on to the provider as it is."""

    def _set_shared(self, *, extra: dict[str, Any], **given: Any) -> None:
        """Check and store the shared arguments; called by each subclass's constructor."""
        owner = type(self).__name__
        self._refuse_misspelt(extra)
        n_workers = _count(owner, "n_workers", given["n_workers"], least=0)
        minimum, maximum = _bounds(
            owner, given["adaptive_min_workers"], given["adaptive_max_workers"]
        )
        if n_workers is not None and minimum is not None:
            raise EnvironmentValueError(
                f"{owner} was given both n_workers={n_workers} and adaptive bounds "
                f"({minimum} to {maximum}); keep n_workers for a fixed size or the bounds for an "
                "adaptive one"
            )
        self._put("n_workers", n_workers)
        self._put("adaptive_min_workers", minimum)
        self._put("adaptive_max_workers", maximum)
        self._put("security", _security(owner, given["security"]))
        for name in ("executor_kwargs", "metadata"):
            self._put(name, _mapping(owner, name, given[name]))
        self._put("labels", _labels(owner, given["labels"]))
        for name in HOOKS:
            self._put(name, _hook(owner, name, given[name]))
        self._put("extra", _mapping(owner, "further arguments", extra))

    def _put(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _refuse_misspelt(self, extra: Mapping[str, Any]) -> None:
        """Refuse a further argument that is nearly one of ours, or one of Prefect 0.x's others."""
        known = self._argument_names()
        for name in extra:
            # A provider's own argument such as worker_cores is a little like n_workers.
            meant = nearest(name, known, cutoff=0.8)
            if meant is not None:
                raise EnvironmentValueError(
                    f"{type(self).__name__} has no argument {name!r}; did you mean {meant!r}? "
                    "(an argument for the provider itself must not look like one of ours)"
                )

    @classmethod
    def _argument_names(cls) -> tuple[str, ...]:
        parameters = inspect.signature(cls).parameters.values()
        return tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)

    def arguments(self) -> dict[str, Any]:
        """Give the keyword arguments that make an equal environment, as copies.

        Returns
        -------
        dict
            Only what differs from the constructor's defaults.
        """
        own: dict[str, Any] = {}
        for name, parameter in inspect.signature(type(self)).parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                continue
            value = _thaw(getattr(self, name))
            if value != parameter.default and not (value in ({}, []) and not parameter.default):
                own[name] = value
        return {**own, **_thaw(self.extra)}

    def replace(self, **changes: Any) -> Self:
        """Make a copy with some arguments changed; None takes an argument back to its default.

        Examples
        --------
        >>> from daskenv_lab import DaskGatewayEnvironment
        >>> DaskGatewayEnvironment("local", n_workers=2).replace(n_workers=4)
        DaskGatewayEnvironment(gateway_address='local', n_workers=4)
        """
        arguments = {**self.arguments(), **changes}
        return type(self)(**{k: v for k, v in arguments.items() if v is not None})

    @property
    def adaptive(self) -> tuple[int, int] | None:
        """The least and greatest number of workers, or None for a fixed size."""
        if self.adaptive_min_workers is None or self.adaptive_max_workers is None:
            return None
        return self.adaptive_min_workers, self.adaptive_max_workers

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets among the arguments."""
        return tuple(secrets_in(self.arguments()))

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that are equal for equal environments, on every machine."""
        return fingerprint(self._written(strict=False))

    def without_hooks(self) -> Self:
        """Make a copy without `on_start`, `on_execute` and `on_exit`."""
        return self.replace(**dict.fromkeys(HOOKS))

    def to_dict(self) -> dict[str, Any]:
        """Write the environment down in JSON's types, secrets by the name of their variable.

        Raises
        ------
        EnvironmentValueError
            An argument has no written form, such as a lambda or an open connection.
        """
        return self._written(strict=True)

    def _written(self, *, strict: bool) -> dict[str, Any]:
        arguments = {
            name: encode(value, where=name, strict=strict)
            for name, value in sorted(self.arguments().items())
        }
        return {"schema": SCHEMA_VERSION, "kind": self.kind, "arguments": arguments}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        assert isinstance(other, Environment)  # noqa: S101 - for the type checker
        # As text: in a mapping, NaN would differ from itself, and True would equal 1.
        return canonical(self._written(strict=False)) == canonical(other._written(strict=False))

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={_shown(v)}" for k, v in self.arguments().items())
        return f"{type(self).__name__}({inner})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.arguments())


def text(owner: str, name: str, value: Any, *, hint: str) -> str:
    """Check that an argument is a text that is not empty.

    Raises
    ------
    EnvironmentValueError
        It is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise EnvironmentValueError(f"{owner} was given {name}={_shown(value)}; {hint}")
    return value


def _rebuild(cls: type[Environment], arguments: dict[str, Any]) -> Environment:
    return cls(**arguments)


def _count(owner: str, name: str, value: Any, *, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise EnvironmentValueError(
            f"{owner} was given {name}={_shown(value)}; it takes a whole number from {least} "
            "upwards, or None"
        )
    return value


def _bounds(owner: str, low: Any, high: Any) -> tuple[int | None, int | None]:
    """Apply the Gateway environment's rule: no minimum is 1, no maximum is the minimum."""
    minimum = _count(owner, "adaptive_min_workers", low, least=0)
    maximum = _count(owner, "adaptive_max_workers", high, least=1)
    if minimum is None and maximum is None:
        return None, None
    minimum = 1 if minimum is None else minimum
    if maximum is None:
        maximum = _count(owner, "adaptive_max_workers (the same as the minimum)", minimum, least=1)
    assert maximum is not None  # noqa: S101 - for the type checker
    if minimum > maximum:
        raise EnvironmentValueError(
            f"{owner} was given adaptive_min_workers={minimum} above "
            f"adaptive_max_workers={maximum}; swap the two"
        )
    return minimum, maximum


def _security(owner: str, value: Any) -> bool | Mapping[str, Any] | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return _mapping(owner, "security", value)
    # A distributed.Security, known by its way of listing itself, so as not to import distributed.
    names = getattr(type(value), "__slots__", None)
    if type(value).__name__ == "Security" and names:
        given = {name: getattr(value, name, None) for name in names}
        kept = {k: v for k, v in given.items() if v not in (None, {}) and not k.startswith("_")}
        if "tls_min_version" in kept:
            # An ssl.TLSVersion, which equals its number; only the number can be written down.
            kept["tls_min_version"] = int(kept["tls_min_version"])
        return _mapping(owner, "security", kept)
    raise EnvironmentValueError(
        f"{owner} was given security={_shown(value)}; it takes True, False, a "
        "distributed.Security, or a mapping of its arguments"
    )


def _mapping(owner: str, name: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise EnvironmentValueError(
            f"{owner} was given {name}={_shown(value)}; it takes a mapping with names as keys"
        )
    path = (name,) if name == "security" else ()
    return MappingProxyType(conceal(copy.deepcopy(dict(value)), path=path))


def _labels(owner: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset):
        raise EnvironmentValueError(
            f"{owner} was given labels={_shown(value)}; it takes a list of words"
        )
    labels = tuple(sorted(value) if isinstance(value, set | frozenset) else value)
    if not all(isinstance(label, str) and label for label in labels):
        raise EnvironmentValueError(
            f"{owner} was given labels={_shown(value)}; each label is a text that is not empty"
        )
    return labels


def _hook(owner: str, name: str, value: Any) -> Hook | None:
    if value is None:
        return None
    if not callable(value):
        raise EnvironmentValueError(
            f"{owner} was given {name}={_shown(value)}; it takes a function, without calling it"
        )
    wanted = {"on_execute": ("parameters", "provider_kwargs")}.get(name, ())
    hook: Hook = value
    try:
        inspect.signature(hook).bind(*wanted)
    except TypeError as error:
        raise EnvironmentValueError(
            f"{owner} was given {name}={_shown(value)}, which cannot be called as "
            f"{name}({', '.join(wanted)}) ({error}); change its parameters"
        ) from error
    except ValueError:
        return hook  # A builtin without a signature.
    return hook


def _thaw(value: Any) -> Any:
    if isinstance(value, MappingProxyType):
        return copy.deepcopy(dict(value))
    if isinstance(value, tuple):
        return list(value)
    return copy.deepcopy(value) if isinstance(value, dict | list) else value


def _shown(value: Any) -> str:
    """Represent an argument with its secrets masked, and not too long."""
    shown = mask(repr(conceal(value) if isinstance(value, dict | list | tuple) else value))
    return shown if len(shown) <= 200 else f"{shown[:197]}..."
