"""Clusters on this machine, behind the embedded Dask Gateway.

One background server for each user's state folder and each Python interpreter is started when it
is first needed, and found again by every later process.
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dask_gateway.auth import BasicAuth

from daskenv_lab import config, solo
from daskenv_lab.background import (
    end_all,
    last_lines,
    log_file,
    private_folder,
    processes_under,
    read_record,
    recorded_process,
    spawn,
)
from daskenv_lab.bounded import Deadline
from daskenv_lab.environments import DaskGatewayEnvironment, Environment
from daskenv_lab.errors import (
    ClusterGone,
    ClusterStartError,
    ProviderUnreachable,
    WaitTimeout,
)
from daskenv_lab.prices import Rate
from daskenv_lab.providers.contract import Offer, Provider
from daskenv_lab.providers.gateway_client import GatewayClient, check_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from subprocess import Popen

    from daskenv_lab.cluster import ClusterInfo, ClusterRef
    from daskenv_lab.providers.connection import Connection
    from daskenv_lab.providers.contract import OnSubmitted, Progress

SERVER = "daskenv_lab.providers.gateway_server"
USER = "daskenv"
_KIND = "gateway"
_WHAT = "the embedded Gateway"
RECORD = "server.json"

_PACKAGES = ("dask", "distributed", "dask-gateway", "dask-gateway-server")


class LocalProvider(Provider):
    """Clusters of processes on this machine, with TLS, that outlive the kernel.

    Examples
    --------
    >>> LocalProvider(DaskGatewayEnvironment("local")).name
    'local'
    """

    name: ClassVar[str] = "local"

    def __init__(self, environment: Environment) -> None:
        if not isinstance(environment, DaskGatewayEnvironment):
            raise TypeError(f"{type(environment).__name__} does not name the embedded Gateway")
        self.environment = environment

    def create(
        self, label: str, *, timeout: float, progress: Progress, on_submitted: OnSubmitted
    ) -> ClusterRef:
        """Start the Gateway if it does not run, and a cluster in it; see `Provider.create`."""
        deadline = Deadline(timeout)
        folder = server_folder()
        for again in (True, False):
            record = _running_server(folder, deadline, progress)
            try:
                return _client(folder, record).create(
                    label,
                    self._options(),
                    timeout=deadline.left,
                    progress=progress,
                    on_submitted=on_submitted,
                    explain=lambda ref: _why(folder, ref.id),
                )
            except ProviderUnreachable:
                # It may have been ending for want of clusters between the look and the request.
                if not again or not _ends(record, deadline):
                    raise
        raise AssertionError

    def connect(self, ref: ClusterRef, *, timeout: float) -> Connection:
        """Connect to a cluster; a server that was killed is started again to find it."""
        check_name(ref)
        deadline = Deadline(timeout)
        folder = Path(ref.location)
        for again in (True, False):
            record = _server_of(ref, folder, deadline)
            try:
                return _client(folder, record).connect(
                    ref,
                    timeout=deadline.left,
                    client_kwargs=config.resolve_secrets(dict(self.environment.executor_kwargs)),
                )
            except ProviderUnreachable:
                # It may have been killed between the look and the request.
                if not again or not _ends(record, deadline):
                    raise
        raise AssertionError

    def scale(self, connection: Connection, n: int) -> None:
        """Ask for `n` workers."""
        _client_of(connection.ref).scale(connection.ref, n)

    def adapt(self, connection: Connection, minimum: int, maximum: int) -> None:
        """Let the number of workers follow the load."""
        _client_of(connection.ref).adapt(connection.ref, minimum, maximum)

    def offers(self) -> tuple[Offer, ...]:
        """Describe the options of the embedded Gateway, which need not run for that."""
        told = _defaults()
        return (
            Offer(
                name="worker_threads",
                label="Threads of a worker",
                kind="whole",
                default=told["worker_threads"],
                least=1,
            ),
            Offer(
                name="worker_memory",
                label="Memory of a worker",
                kind="text",
                default=str(told["worker_memory"]),
            ),
            Offer(
                name="idle_timeout",
                label="Ends when idle for",
                kind="text",
                default=str(told["idle_timeout"]),
            ),
        )

    def rate(self) -> Rate:
        """Tell that processes on this machine cost nothing."""
        return Rate(base=0.0, worker=0.0, source="this machine")

    def shutdown(self, ref: ClusterRef, *, timeout: float) -> None:
        """Stop the cluster, also one whose server was killed."""
        check_name(ref)
        folder = Path(ref.location)
        record = read_record(folder / RECORD)
        if recorded_process(record):
            _client(folder, record).shutdown(ref, timeout=timeout)
        else:
            end_all(processes_under(folder / "clusters" / ref.id), patience=min(5.0, timeout))

    def find(self) -> list[ClusterInfo]:
        """List the clusters of this interpreter's embedded Gateway, if it runs."""
        folder = server_folder()
        record = read_record(folder / RECORD)
        return _client(folder, record).find() if recorded_process(record) else []

    def _options(self) -> dict[str, Any]:
        options = {**_defaults(), **config.resolve_secrets(dict(self.environment.cluster_options))}
        # The Gateway takes these as text; a plain number of bytes or seconds is welcome here.
        for name in ("worker_memory", "idle_timeout"):
            if isinstance(options[name], int | float):
                options[name] = str(options[name])
        return options


def _defaults() -> dict[str, Any]:
    return {
        "worker_threads": config.whole("local.worker-threads"),
        "worker_memory": config.get("local.worker-memory"),
        "idle_timeout": config.get("local.idle-timeout"),
    }


def server_folder() -> Path:
    """Give the folder of the embedded Gateway for this interpreter and its packages."""
    versions = [f"{name}={importlib.metadata.version(name)}" for name in _PACKAGES]
    return solo.folder_of(_KIND, platform.python_version(), *versions)


def server_status() -> list[dict[str, Any]]:
    """Tell about each embedded Gateway of this user that runs, without any secret.

    Returns
    -------
    list of dict
        ``address``, ``pid``, ``started`` (seconds since 1970), ``executable`` and ``folder``.
    """
    told = []
    for folder in solo.folders(_KIND):
        record = read_record(folder / RECORD)
        if recorded_process(record):
            public = ("address", "pid", "started", "executable")
            told.append({**{key: record.get(key) for key in public}, "folder": str(folder)})
    return told


def stop_server(timeout: float) -> int:
    """Stop every embedded Gateway of this user with all its clusters, and remove its files.

    Parameters
    ----------
    timeout : float
        Seconds for each to end in good order; what remains is killed.

    Returns
    -------
    int
        The number of servers that ran.

    Raises
    ------
    WaitTimeout
        Another process is starting a server at this moment, and does not finish.
    """
    return solo.stop_all(_KIND, timeout, record=RECORD, what=_WHAT)


def _running_server(folder: Path, deadline: Deadline, progress: Progress) -> dict[str, Any]:
    """Find the server, or start it, once however many ask."""
    record = read_record(folder / RECORD)
    if recorded_process(record):
        return record
    private_folder(folder)
    with solo.locked(folder, deadline.left, what=_WHAT):
        record = read_record(folder / RECORD)
        return record if recorded_process(record) else _start(folder, deadline, progress)


def _server_of(ref: ClusterRef, folder: Path, deadline: Deadline) -> dict[str, Any]:
    """Find the server of a cluster, or start it again where the cluster outlived it."""
    record = read_record(folder / RECORD)
    if recorded_process(record):
        return record
    if not record or folder != server_folder() or not _has_processes(folder, ref.id):
        raise ClusterGone(
            f"the embedded Gateway in {folder} and its cluster {ref.id!r} do not run any "
            "more; start another with `daskenv up`"
        )
    return _running_server(folder, deadline, _silent)


def _start(folder: Path, deadline: Deadline, progress: Progress) -> dict[str, Any]:
    progress("starting the embedded Gateway on this machine")
    arguments = [
        str(folder),
        f"--port={config.whole('local.port')}",
        f"--idle-timeout={config.seconds('local.server-idle-timeout')}",
    ]
    child = spawn(SERVER, arguments, folder=folder)
    try:
        return _started(child, folder, deadline)
    except BaseException:
        if child.poll() is None:
            child.terminate()
        raise


def _started(child: Popen[bytes], folder: Path, deadline: Deadline) -> dict[str, Any]:
    while True:
        record = read_record(folder / RECORD)
        if recorded_process(record):
            if record["pid"] != child.pid:
                # Another was on its way already, whose starter was killed.
                child.terminate()
            return record
        log = log_file(folder, SERVER)
        if child.poll() is not None:
            raise ClusterStartError(
                f"the embedded Gateway ended with code {child.returncode} before it was ready; "
                f"its log {log} says:\n{last_lines(log)}"
            )
        if deadline.passed:
            raise WaitTimeout(
                f"the embedded Gateway did not start within {deadline.seconds:g} s; raise "
                f"daskenv.timeouts.start; its log {log} says:\n{last_lines(log)}"
            )
        deadline.pause(0.05)


def _client(folder: Path, record: Mapping[str, Any]) -> GatewayClient:
    auth = BasicAuth(USER, record["password"])
    return GatewayClient(LocalProvider.name, str(folder), record["address"], auth=auth)


def _client_of(ref: ClusterRef) -> GatewayClient:
    folder = Path(ref.location)
    record = read_record(folder / RECORD)
    if not recorded_process(record):
        raise ProviderUnreachable(
            f"the embedded Gateway in {folder} does not run; `daskenv up` starts it again"
        )
    return _client(folder, record)


def _ends(record: dict[str, Any], deadline: Deadline) -> bool:
    """Tell whether a silent server has ended, or does so in a moment."""
    patience = Deadline(min(5.0, deadline.left))
    while recorded_process(record):
        if patience.passed:
            return False
        patience.pause(0.1)
    return True


def _has_processes(folder: Path, cluster: str) -> bool:
    return bool(processes_under(folder / "clusters" / cluster))


def _why(folder: Path, cluster: str) -> str:
    """Give the scheduler's last words, from its folder or from where the server kept them."""
    for log in (
        folder / "failed" / f"{cluster}.log",
        folder / "clusters" / cluster / "logs" / "scheduler.log",
    ):
        if text := last_lines(log):
            return f"the scheduler's log ends with:\n{text}\n"
    return ""


def _silent(_: str) -> None:
    pass
