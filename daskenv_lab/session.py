"""The long-lived cluster: started once under a name, reused from anywhere, and let go.

A `Session` is this process's hold on such a cluster. Closing it, or ending the process in any way,
leaves the cluster running; `Session.down` destroys it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daskenv_lab import config, registry
from daskenv_lab.environments import DaskCloudProviderEnvironment, DaskGatewayEnvironment
from daskenv_lab.errors import NotSupported
from daskenv_lab.export import DEFAULT_NAMES, Request, write_environment
from daskenv_lab.phrases import span
from daskenv_lab.providers import provider_for
from daskenv_lab.settings import SIZES, Difference, apply_size, differences, sized

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from daskenv_lab.cluster import ClusterInfo, ClusterRef
    from daskenv_lab.environments import Environment
    from daskenv_lab.flows import DaskExecutor
    from daskenv_lab.packages.report import PackageReport
    from daskenv_lab.providers.connection import Connection
    from daskenv_lab.registry import Record
    from daskenv_lab.report import FlowRunReport

_log = logging.getLogger("daskenv_lab")

_open: dict[str, Session] = {}
"""The sessions of this process by name, the one used last at the end."""


class Session:
    """A hold of this process on a named cluster; made by `up` and `connect`.

    Examples
    --------
    >>> session = daskenv_lab.up("local", name="dev")  # doctest: +SKIP
    >>> session.message  # doctest: +SKIP
    'Reusing dev: 3 workers, up 12 min'
    """

    def __init__(
        self,
        record: Record,
        connection: Connection,
        *,
        environment: Environment,
        info: ClusterInfo,
        reused: bool,
        changes: tuple[Difference, ...] = (),
    ) -> None:
        self.name = record.name
        self.connection = connection
        self.environment = environment
        self.reused = reused
        """Whether the cluster ran before."""
        self.changes = changes
        """The settings that differed, and were changed live."""
        self._provider = provider_for(environment)
        size = _size(info)
        uptime = f", up {span(info.uptime or 0)}" if reused else ""
        self.message = f"{'Reusing' if reused else 'Started'} {self.name}: {size}{uptime}"

    @property
    def ref(self) -> ClusterRef:
        """Where the cluster is found again."""
        return self.connection.ref

    @property
    def client(self) -> Any:
        """The `distributed.Client` of this session, which is nobody's default client."""
        return self.connection.client

    @property
    def scheduler_address(self) -> str:
        """The scheduler's address."""
        return self.connection.address

    @property
    def security(self) -> Any:
        """The TLS credentials for the scheduler, a `distributed.Security` or None."""
        return self.connection.security

    @property
    def dashboard_link(self) -> str | None:
        """The Dask dashboard's address."""
        return self.connection.dashboard_link

    def info(self) -> ClusterInfo:
        """Ask the scheduler how the cluster is.

        Raises
        ------
        ClusterGone
            It does not run any more.
        """
        return self._provider.info(self.connection)

    def scale(self, n: int) -> None:
        """Ask for `n` workers, and end adaptive scaling; does not wait for them.

        Raises
        ------
        NotSupported
            The cluster is somebody else's.
        """
        self._set_size(n_workers=n)

    def adapt(self, minimum: int | None = None, maximum: int | None = None) -> None:
        """Let the number of workers follow the load between two bounds."""
        self._set_size(adaptive_min_workers=minimum, adaptive_max_workers=maximum)

    def apply(self, wanted: Environment) -> None:
        """Give the cluster the size of other settings, such as those that `tune` suggests.

        Raises
        ------
        NotSupported
            More than the size differs, which no running cluster can follow.
        """
        found = differences(self.environment, wanted, self.info())
        fixed = [difference.setting for difference in found if not difference.live]
        if fixed:
            raise NotSupported(
                f"{', '.join(fixed)} cannot change while {self.name!r} runs; make it anew with "
                f"`up(environment, name={self.name!r}, replace=True)`"
            )
        self._set_size(**{size: getattr(wanted, size) for size in SIZES})

    def logs(self, lines: int = 50, worker: str | None = None) -> Mapping[str, str]:
        """Give the last lines of the scheduler's and of each worker's log, by address.

        Parameters
        ----------
        lines : int
            How many of each at most.
        worker : str, optional
            Only that worker's: its address, the host in it, or what else the provider knows it by.

        Raises
        ------
        UnknownNameError
            There is no such worker; the nearest is named.
        """
        return self._provider.logs(self.connection, lines=lines, worker=worker)

    def follow_logs(self, lines: int = 10, worker: str | None = None) -> Iterator[tuple[str, str]]:
        """Go through the lines of all logs (or one worker's) as they are written, until the end.

        Parameters
        ----------
        lines : int
            How many of those that are there already come first, of each log.
        worker : str, optional
            As for `logs`.

        Yields
        ------
        tuple of str
            Whose line it is, and the line.

        Raises
        ------
        NotSupported
            This kind of cluster only tells its last lines.
        """
        return self._provider.follow_logs(self.connection, lines=lines, worker=worker)

    def keep_alive(self, seconds: float) -> float | None:
        """Let the cluster not end by itself for so long, whether it is used or not.

        Returns
        -------
        float or None
            Seconds until it may; None for one that never ends by itself.

        Raises
        ------
        NotSupported
            The idle time-out of this kind of cluster is not ours to set.
        """
        return self._provider.keep_alive(self.connection, seconds)

    def tuned(self) -> Environment:
        """Give the environment with the size that really runs now."""
        return sized(self.environment, self.info())

    def executor(self) -> DaskExecutor:
        """Give a Prefect task runner for this cluster."""
        from daskenv_lab.flows import DaskExecutor

        return DaskExecutor(self)

    def run(self, flow: Any, /, **parameters: Any) -> FlowRunReport:
        """Run a flow on this cluster and report on it; a flow that fails does not raise."""
        from daskenv_lab.flows.flow_run import run_flow

        return run_flow(flow, parameters, on=self)

    def stop_flow_runs(self) -> None:
        """Ask the flow runs on this cluster to end, also those of other kernels; does not wait.

        Each ends Cancelled, as `run` makes it; one of a flow that was called by itself ends as
        at Ctrl-C. The cluster stays as it is.
        """
        self.connection.stop_flow_runs()

    def packages(self, *flows: Any) -> PackageReport:
        """Compare what is installed here, on the scheduler and on each worker.

        Parameters
        ----------
        *flows
            Flows, tasks or functions, whose imports are looked for too.

        Examples
        --------
        >>> session.packages(etl).troubles  # doctest: +SKIP
        ()
        """
        from daskenv_lab.packages.compare import compare

        return compare(self.connection, flows)

    def install_packages(self, *flows: Any) -> str:
        """Install on each worker, also on later ones, the pure packages that the flows lack there.

        They lie in a folder of each worker's own and go with it; an export refuses an environment
        whose image lacks them.

        Returns
        -------
        str
            What was installed, and where.

        Raises
        ------
        PackageError
            Nothing is missing, it is not pure, or pip failed.

        Examples
        --------
        >>> session.install_packages(etl)  # doctest: +SKIP
        'Installed tabulate 0.9.0 on 2 workers, and on those that come; it goes with the workers'
        """
        from daskenv_lab.packages.install import install, plan

        return install(self.connection, plan(self.connection, self.packages(*flows)))

    def export(
        self,
        path: str | Path | None = None,
        format: str | None = None,  # noqa: A002 - the word that people look for
        *,
        overwrite: bool = False,
        allow_missing: bool = False,
        registration: Mapping[str, Any] | None = None,
        profile: str | None = None,
        entrypoint: str | None = None,
        name: str | None = None,
        work_pool_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        description: str | None = None,
    ) -> Path:
        """Write the tuned settings into a file for production.

        Parameters
        ----------
        path : str or Path, optional
            The file; by default the format's own name, such as ``environment.py``.
        format : str, optional
            ``python``, ``json``, ``dask``, ``prefect`` or ``dockerfile``; by default what the
            file's name says.
        overwrite : bool
            Replace the file whatever it is.
        allow_missing : bool
            Write it although the workers' image lacks packages that the flows import.
        registration : mapping, optional
            ``python`` only: arguments of the call that registers a flow when the module is run,
            with the flow itself as ``flow``, such as ``"flows.py:etl"``.
        profile : str, optional
            ``dask`` only: the profile's name; by default the session's.
        entrypoint : str, optional
            ``prefect`` only, and needed there: where the flow is, such as ``flows.py:etl``.
        name, work_pool_name, parameters, description : optional
            ``prefect`` only: the deployment's; its name is the flow's by default.

        Raises
        ------
        ExportError
            The file is not ours, a setting cannot be written down, or the image lacks packages.
        RegistrationError
            The flow at `entrypoint` cannot be loaded, or is bound to no environment.

        Examples
        --------
        >>> session.export("prefect.yaml", entrypoint="flows.py:etl")  # doctest: +SKIP
        PosixPath('/home/ada/prefect.yaml')
        """
        from daskenv_lab.packages.compare import lacking
        from daskenv_lab.packages.pins import image_for

        request = Request(
            source=f"the session {self.name!r} of {config.owner()}",
            when=datetime.now(UTC),
            format=format,
            registration=registration,
            profile=profile,
            entrypoint=entrypoint,
            name=name,
            work_pool_name=work_pool_name,
            parameters=parameters,
            description=description,
        )
        target = DEFAULT_NAMES.get(format or "python", "environment") if path is None else path
        tuned = self.tuned()
        if isinstance(tuned, DaskCloudProviderEnvironment):
            tuned = tuned.replace(rehearse=None)  # production is no rehearsal
        match request.format_for(target):
            case "dask":
                request = replace(request, profile=request.profile or self.name)
            case "dockerfile":
                request = replace(request, image=image_for(self.connection))
            case "prefect" if entrypoint is not None:
                tuned.refuse_unbound(entrypoint)
        lacks = {} if allow_missing else lacking(self.connection)
        return write_environment(tuned, target, request, overwrite=overwrite, lacks=lacks)

    def detach(self) -> None:
        """Let go: the cluster lives on, and `reap` may remove it once it is idle."""
        with registry.lock(self.name, progress=_log.info):
            record = registry.read(self.name)
            if record is not None:
                registry.write(record, held=False)
            self.connection.set_label(held=False)
        self.close()

    def down(self, *, timeout: float | None = None) -> None:
        """Destroy the cluster, and wait until it is gone."""
        with registry.lock(self.name, progress=_log.info):
            self.close()
            if (record := registry.read(self.name)) is not None:
                registry.doom(record)
            limit = config.seconds("timeouts.stop") if timeout is None else timeout
            self._provider.shutdown(self.ref, timeout=limit)
            registry.forget(self.name)

    def close(self) -> None:
        """Close the connection; the cluster lives on and stays held. May be called twice."""
        if _open.get(self.name) is self:
            del _open[self.name]
        self._provider.close(self.connection)

    def _set_size(self, **size: int | None) -> None:
        # Checked as a Gateway's size first: an environment without one has its provider refuse.
        wanted = DaskGatewayEnvironment(**size)  # type: ignore[arg-type]
        apply_size(self._provider, self.connection, wanted)
        self.environment = self.environment.replace(**{**dict.fromkeys(SIZES), **size})
        registry.update(self.name, self.ref, environment=self.environment.without_hooks())

    def __repr__(self) -> str:
        return f"<Session {self.name!r} on {self.scheduler_address}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"the session {self.name!r} cannot travel to a worker; pass values to the task instead"
        )


def current() -> Session | None:
    """Give the session that this process used last, or None."""
    return next(reversed(_open.values()), None)


def opened(name: str) -> Session | None:
    """Give this process's session of that name, or None."""
    return _open.get(name)


def remember(session: Session) -> Session:
    """Make a session the one used last, and close a former one of its name."""
    former = _open.pop(session.name, None)
    if former is not None and former.connection is not session.connection:
        former.close()
    _open[session.name] = session
    return session


def _size(info: ClusterInfo) -> str:
    wanted = info.requested or 0
    there = f"{info.n_workers} of {wanted}" if info.n_workers < wanted else f"{info.n_workers}"
    return f"{there} worker" if max(info.n_workers, wanted) == 1 else f"{there} workers"
