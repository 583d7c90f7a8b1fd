"""What all environments share: sizes, security, hooks, labels, and their written form."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from daskenv_lab.environments import checks
from daskenv_lab.environments.codec import canonical, encode, fingerprint
from daskenv_lab.environments.secret import Secret, forget, secrets_in
from daskenv_lab.errors import EnvironmentValueError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect import Flow
    from prefect.task_runners import TaskRunner

    from daskenv_lab.environments.checks import Hook
    from daskenv_lab.production import Deployment

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
        n_workers = checks.count(owner, "n_workers", given["n_workers"], least=0)
        minimum, maximum = checks.bounds(
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
        self._put("security", checks.security(owner, given["security"]))
        for name in ("executor_kwargs", "metadata"):
            self._put(name, checks.mapping(owner, name, given[name]))
        self._put("labels", checks.labels(owner, given["labels"]))
        for name in HOOKS:
            self._put(name, checks.hook(owner, name, given[name]))
        self._put("extra", checks.mapping(owner, "further arguments", extra))

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
    def image(self) -> str | None:
        """The container image that is chosen for the cluster."""
        given = self.extra.get("image")
        return None if given is None else str(given)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets among the arguments."""
        return tuple(secrets_in(self.arguments()))

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that are equal for equal environments, on every machine."""
        return fingerprint(self._written(strict=False))

    def task_runner(self) -> TaskRunner[Any]:
        """Give a Prefect task runner that makes a cluster for each flow run, and removes it.

        Examples
        --------
        >>> from prefect import flow
        >>> @flow(task_runner=environment.task_runner())  # doctest: +SKIP
        ... def etl(x): ...
        """
        from daskenv_lab.production import FlowRunExecutor

        return FlowRunExecutor(self)

    def execute(self, flow: Flow[..., Any], parameters: Mapping[str, Any] | None = None) -> Any:
        """Run a flow on a fresh cluster, and give its result.

        Parameters
        ----------
        flow : prefect.Flow
            A synchronous or asynchronous flow; it need not name a task runner.
        parameters : mapping, optional
            Its parameters, by name.

        Raises
        ------
        FlowParameterError
            The parameters do not fit the flow.
        Exception
            What the flow raised.
        """
        from daskenv_lab.production import execute

        return execute(self, flow, parameters or {})

    def refuse_unbound(self, place: str) -> None:
        """Load a flow in a clean process, and refuse one whose runs would have no cluster.

        Parameters
        ----------
        place : str
            ``"flows.py:etl"`` or ``"package.module:etl"``.

        Raises
        ------
        RegistrationError
            It cannot be loaded, or is bound to no environment.
        """
        from daskenv_lab.production import refuse_unbound

        refuse_unbound(place)

    def register(self, flow: Any, *, name: str, work_pool_name: str, **options: Any) -> Deployment:
        """Make a Prefect deployment whose flow runs use this environment, or change it.

        The flow is loaded in a clean process first. One that no file holds, such as a notebook's,
        is written to a module with all that it needs; so is one that is bound to no environment.

        Parameters
        ----------
        flow : prefect.Flow or str
            The flow, or its place: ``"flows.py:etl"``, ``"package.module:etl"``.
        name : str
            The deployment's name.
        work_pool_name : str
            A work pool that exists.
        work_queue_name : str, optional
            A queue of that pool; by default the first that one of the labels names.
        image : str, optional
            The image of the flow runs, for pools whose jobs are containers; the clusters take
            the same, unless the environment names another.
        schedule : optional
            A cron line, seconds or a timedelta between runs, a `prefect.schedules.Schedule`, or
            several of these in a list.
        parameters : mapping, optional
            Parameters of the flow runs, where a run gives no others.
        description : str, optional
            By default the flow's.
        job_variables : mapping, optional
            Further variables of the pool's jobs.
        path : str or Path, optional
            The folder that holds the flow's module where it runs; by default this one here for a
            process pool, and a container's working directory for the others.
        module : str or Path, optional
            The file to write, if one is written; by default ``<flow>_<deployment>.py`` beside the
            flow, or in the working directory.
        overwrite : bool
            Replace that file whatever it is.

        Raises
        ------
        RegistrationError
            The flow cannot be loaded in a clean process, the pool does not exist or takes no such
            variable, or the API refuses the deployment.
        ExportError
            The flow or the environment cannot be written as code.

        Examples
        --------
        >>> environment.register(etl, name="nightly", work_pool_name="pool")  # doctest: +SKIP
        """
        from daskenv_lab.production import register

        return register(self, flow, name=name, work_pool_name=work_pool_name, **options)

    def without_hooks(self) -> Self:
        """Make a copy without `on_start`, `on_execute` and `on_exit`."""
        return self.replace(**dict.fromkeys(HOOKS))

    def without_secret_values(self) -> Self:
        """Make an equal copy whose secrets are read from their process variables alone."""
        return type(self)(**forget(self.arguments()))

    def with_hooks_of(self, other: Environment) -> Self:
        """Make a copy that has the other's hooks where it has none of its own."""
        takes = {*self._argument_names()} & {*HOOKS}
        lacks = [name for name in takes if getattr(self, name) is None]
        return self.replace(**{name: getattr(other, name) for name in lacks})

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
        inner = ", ".join(f"{k}={checks.shown(v)}" for k, v in self.arguments().items())
        return f"{type(self).__name__}({inner})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.arguments())


def _rebuild(cls: type[Environment], arguments: dict[str, Any]) -> Environment:
    return cls(**arguments)


def _thaw(value: Any) -> Any:
    if isinstance(value, MappingProxyType):
        return copy.deepcopy(dict(value))
    if isinstance(value, tuple):
        return list(value)
    return copy.deepcopy(value) if isinstance(value, dict | list) else value
