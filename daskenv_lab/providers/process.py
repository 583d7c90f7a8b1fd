"""Clusters of any `distributed` cluster class, each held by a background process."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import time
from concurrent.futures import TimeoutError as NotYet
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, answer_challenge, deliver_challenge
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import distributed

from daskenv_lab import config
from daskenv_lab.background import (
    Background,
    end_all,
    last_lines,
    log_file,
    private_folder,
    processes_under,
    read_record,
    recorded_process,
    spawn,
)
from daskenv_lab.bounded import Deadline, in_background
from daskenv_lab.cluster import ClusterInfo, ClusterRef
from daskenv_lab.environments import (
    DaskCloudProviderEnvironment,
    DaskGatewayEnvironment,
    Environment,
)
from daskenv_lab.environments.codec import encode
from daskenv_lab.errors import (
    ClusterGone,
    ClusterStartError,
    DaskEnvLabError,
    ProviderError,
    ProviderUnreachable,
    WaitTimeout,
)
from daskenv_lab.providers.connection import Connection
from daskenv_lab.providers.contract import Provider

if TYPE_CHECKING:
    from subprocess import Popen

    from daskenv_lab.providers.contract import OnSubmitted, Progress

HOLDER = "daskenv_lab.providers.process_holder"
HELD = "clusters-held"
RECORD = "holder.json"

_LOCAL_CLUSTER = ("distributed.LocalCluster", "dask.distributed.LocalCluster")
# What the embedded Gateway's options are called by LocalCluster, where it stands in for one.
_AS_LOCAL_CLUSTER = {
    "worker_threads": "threads_per_worker",
    "worker_memory": "memory_limit",
    "environment": "env",
}
# Seconds until the folder of a holder that died is cleared away.
_STALE = 3600.0
# Seconds for each cluster that `find` asks.
_LOOK_TIME = 5.0


class ProcessProvider(Provider):
    """Clusters of a class by its dotted path; each lives in a process of its own, on this machine.

    Examples
    --------
    >>> ProcessProvider(DaskCloudProviderEnvironment("distributed.LocalCluster")).name
    'process'
    """

    name: ClassVar[str] = "process"

    def __init__(self, environment: Environment) -> None:
        if not isinstance(environment, DaskCloudProviderEnvironment | DaskGatewayEnvironment):
            raise TypeError(f"{type(environment).__name__} names no cluster class")
        self.environment = environment

    def create(
        self, label: str, *, timeout: float, progress: Progress, on_submitted: OnSubmitted
    ) -> ClusterRef:
        """Start a holder and wait until its cluster runs; see `Provider.create`."""
        deadline = Deadline(timeout)
        order = json.dumps(self._order()).encode()
        folder = private_folder(_held() / secrets.token_hex(8))
        ref = ClusterRef(provider=self.name, id=folder.name, location=str(folder))
        with contextlib.ExitStack() as undo:
            undo.callback(_abandon, folder)
            on_submitted(ref)
            child = spawn(HOLDER, [str(folder)], folder=folder, order=order)
            self._wait_for_start(child, folder, deadline, lambda s: progress(f"{label!r}: {s}"))
            undo.pop_all()
        return ref

    def connect(self, ref: ClusterRef, *, timeout: float) -> Connection:
        """Connect to the cluster that the holder names."""
        deadline = Deadline(timeout)
        folder = Path(ref.location)
        while (record := _running_record(ref)).get("status") != "running":
            if deadline.passed:
                raise WaitTimeout(
                    f"the cluster {ref.id!r} is still {record.get('status')} after {timeout:g} s; "
                    f"wait a little, or see {log_file(folder, HOLDER)}"
                )
            deadline.pause(0.1)
        told = _ask(ref, record, {"op": "describe"}, deadline.left)
        return Connection(
            ref,
            told["address"],
            security=distributed.Security(**told["security"]) if told["security"] else None,
            dashboard_link=told["dashboard"],
            timeout=max(deadline.left, 1.0),
            client_kwargs=config.resolve_secrets(dict(self.environment.executor_kwargs)),
        )

    def scale(self, connection: Connection, n: int) -> None:
        """Ask for `n` workers; the scheduler's label remembers the number."""
        self._order_of(connection, {"op": "scale", "n": n})
        connection.set_label(requested=n, adaptive=None)

    def adapt(self, connection: Connection, minimum: int, maximum: int) -> None:
        """Let the number of workers follow the load; the label remembers the bounds."""
        self._order_of(connection, {"op": "adapt", "minimum": minimum, "maximum": maximum})
        connection.set_label(requested=None, adaptive=[minimum, maximum])

    def shutdown(self, ref: ClusterRef, *, timeout: float) -> None:
        """Have the holder close the cluster, and wait until it has ended."""
        folder = Path(ref.location)
        record = read_record(folder / RECORD)
        holder = recorded_process(record)
        if holder is not None:
            _end_holder(ref, record, holder, timeout)
        _clear(folder)

    def find(self) -> list[ClusterInfo]:
        """List the clusters that are held on this machine for this user."""
        found = []
        for folder in sorted(_held().glob("*")):
            ref = ClusterRef(provider=self.name, id=folder.name, location=str(folder))
            record = read_record(folder / RECORD)
            if recorded_process(record):
                found.append(self._look_at(ref, str(record.get("status"))))
            elif time.time() - folder.stat().st_mtime > _STALE:
                _clear(folder)
        return found

    def _look_at(self, ref: ClusterRef, status: str) -> ClusterInfo:
        if status == "running":
            with contextlib.suppress(ProviderError):
                connection = self.connect(ref, timeout=_LOOK_TIME)
                with contextlib.closing(connection):
                    return connection.info()
        return ClusterInfo(ref=ref, status="pending" if status == "starting" else status)

    def _order(self) -> dict[str, Any]:
        """Say what the holder is to make; secrets go over its standard input, not to disk."""
        path, given, security = self._class_and_arguments()
        defaults: dict[str, Any] = {"n_workers": 0}
        if path in _LOCAL_CLUSTER or path == "distributed.deploy.local.LocalCluster":
            given = {
                "threads_per_worker": config.whole("local.worker-threads"),
                "memory_limit": config.size("local.worker-memory"),
                # Dask's own default listens on every interface, at a port that is often taken.
                "dashboard_address": "127.0.0.1:0",
                **given,
            }
            security = True if security is None else security
        return {
            "path": path,
            "kwargs": encode(config.resolve_secrets(given), where="the provider's arguments"),
            "security": encode(config.resolve_secrets(security), where="security"),
            "defaults": defaults,
        }

    def _class_and_arguments(self) -> tuple[str, dict[str, Any], Any]:
        security = self.environment.security
        plain = security if security is None or isinstance(security, bool) else dict(security)
        if isinstance(self.environment, DaskCloudProviderEnvironment):
            return self.environment.provider_class, dict(self.environment.provider_kwargs), plain
        options = dict(self.environment.cluster_options)
        options.pop("idle_timeout", None)
        given = {_AS_LOCAL_CLUSTER.get(name, name): value for name, value in options.items()}
        return _LOCAL_CLUSTER[0], given, plain

    def _wait_for_start(
        self, child: Popen[bytes], folder: Path, deadline: Deadline, progress: Progress
    ) -> None:
        path, told = self._class_and_arguments()[0], -5.0
        while True:
            record = read_record(folder / RECORD)
            if record.get("status") == "running":
                return
            log = log_file(folder, HOLDER)
            if record.get("status") == "failed":
                raise ClusterStartError(
                    f"{path} could not be made: {str(record.get('error')).rstrip('.')}; "
                    "change the environment's arguments, or install what is missing"
                )
            if child.poll() is not None:
                raise ClusterStartError(
                    f"the process that was to hold a {path} ended with code {child.returncode}; "
                    f"its log said:\n{last_lines(log)}"
                )
            if deadline.passed:
                raise WaitTimeout(
                    f"{path} was not ready within {deadline.seconds:g} s and was ended; raise "
                    f"daskenv.timeouts.start; its log said:\n{last_lines(log)}"
                )
            if deadline.spent - told >= 5:
                told = deadline.spent
                progress(f"making a {path} ({told:.0f} s)")
            deadline.pause(0.05)

    def _order_of(self, connection: Connection, order: dict[str, Any]) -> None:
        ref = connection.ref
        _ask(ref, _running_record(ref), order, config.seconds("timeouts.connect"))


def _held() -> Path:
    return config.state_dir() / HELD


def _running_record(ref: ClusterRef) -> dict[str, Any]:
    folder = Path(ref.location)
    record = read_record(folder / RECORD)
    if recorded_process(record):
        return record
    raise ClusterGone(
        f"the process that held the cluster {ref.id!r} does not run any more; "
        "start another with `daskenv up`"
    )


def _ask(
    ref: ClusterRef, record: dict[str, Any], order: dict[str, Any], timeout: float
) -> dict[str, Any]:
    """Send one order to a holder and give its answer."""
    try:
        answer = in_background(lambda: _exchange(record, order)).result(max(timeout, 0.1))
    except NotYet as error:
        raise WaitTimeout(
            f"the process that holds the cluster {ref.id!r} does not answer within {timeout:g} s; "
            f"see {log_file(Path(ref.location), HOLDER)}"
        ) from error
    except (AuthenticationError, EOFError, OSError, KeyError, ValueError) as error:
        raise ProviderUnreachable(
            f"the process that holds the cluster {ref.id!r} cannot be reached "
            f"({error or type(error).__name__}); start another cluster with `daskenv up`"
        ) from error
    if "error" in answer:
        raise ProviderError(
            f"the cluster {ref.id!r} did not obey {order['op']!r}: {answer['error']}; "
            f"see {log_file(Path(ref.location), HOLDER)}"
        )
    return answer


def _exchange(record: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    key = bytes.fromhex(record["key"])
    with Client(tuple(record["control"])) as holder:
        answer_challenge(holder, key)
        deliver_challenge(holder, key)
        holder.send_bytes(json.dumps(order).encode())
        return dict(json.loads(holder.recv_bytes()))


def _end_holder(
    ref: ClusterRef, record: dict[str, Any], holder: Background, timeout: float
) -> None:
    deadline = Deadline(timeout)
    with contextlib.suppress(DaskEnvLabError):
        if record.get("status") == "running":
            _ask(ref, record, {"op": "shutdown"}, min(5.0, timeout))
    # A holder that still makes its cluster finishes that, and then closes it.
    if not holder.terminate(deadline.left):
        raise WaitTimeout(
            f"the cluster {ref.id!r} is still closing after {timeout:g} s; look again with "
            f"`daskenv ls`, or end its process {holder.pid} and look for what it leaves"
        )


def _abandon(folder: Path) -> None:
    """End a holder whose cluster did not start in time, or is not wanted any more.

    One that is still making its cluster is not killed, or machines could be left that nobody
    knows: it finishes, closes what it made, and removes its folder.
    """
    holder = recorded_process(read_record(folder / RECORD))
    if holder is None or holder.terminate(min(config.seconds("timeouts.stop"), 10)):
        _clear(folder)


def _clear(folder: Path) -> None:
    if folder.parent.name == HELD:
        end_all(processes_under(folder), patience=2)
        shutil.rmtree(folder, ignore_errors=True)
