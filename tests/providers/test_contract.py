"""What every provider that makes clusters does alike."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import distributed
import pytest

from daskenv_lab.cluster import ClusterRef
from daskenv_lab.environments import (
    DaskCloudProviderEnvironment,
    DaskGatewayEnvironment,
    Environment,
)
from daskenv_lab.errors import ClusterGone, UnknownNameError
from daskenv_lab.providers import provider_for
from daskenv_lab.providers.connection import Connection
from daskenv_lab.providers.contract import Provider
from tests.waiting import until

pytestmark = pytest.mark.slow

LIMIT = 120.0


@dataclass
class Running:
    """A cluster that the tests of one provider share."""

    environment: Environment
    provider: Provider
    ref: ClusterRef
    submitted: list[ClusterRef]
    told: list[str] = field(default_factory=list)

    def connect(self) -> Connection:
        """Open another connection."""
        return self.provider.connect(self.ref, timeout=LIMIT)


@pytest.fixture(scope="module", params=["local", "gateway", "process", "fargate", "ecs"])
def environment(request: pytest.FixtureRequest) -> Environment:
    """Give an environment for each of the providers."""
    if request.param == "local":
        return DaskGatewayEnvironment("local", worker_memory="1 GiB")
    if request.param == "process":
        return DaskCloudProviderEnvironment("distributed.LocalCluster", memory_limit="1 GiB")
    if request.param in ("fargate", "ecs"):
        return on_aws(request.param)
    server = request.getfixturevalue("gateway_server")
    return DaskGatewayEnvironment(server.address, server.auth())


def on_aws(kind: str) -> Environment:
    """Give an environment in an AWS account on this machine."""
    if kind == "fargate":
        small = {"worker_cpu": 256, "worker_mem": 1024, "scheduler_cpu": 256, "scheduler_mem": 1024}
        return DaskCloudProviderEnvironment("fargate", rehearse=True, **small)
    arn = "arn:aws:ecs:us-east-1:123456789012:cluster/rehearsal-ec2"
    small = {"worker_cpu": 512, "worker_mem": 900, "scheduler_cpu": 512, "scheduler_mem": 900}
    return DaskCloudProviderEnvironment("ecs", rehearse=True, cluster_arn=arn, **small)


@pytest.fixture(scope="module")
def running(environment: Environment) -> Iterator[Running]:
    """Give a cluster, started once for each provider."""
    provider = provider_for(environment)
    submitted: list[ClusterRef] = []
    told: list[str] = []
    ref = provider.create("dev", timeout=LIMIT, progress=told.append, on_submitted=submitted.append)
    yield Running(environment, provider, ref, submitted, told)
    provider.shutdown(ref, timeout=LIMIT)


@pytest.fixture
def connection(running: Running) -> Iterator[Connection]:
    """Give a connection of a test's own."""
    connection = running.connect()
    yield connection
    running.provider.close(connection)


def test_the_reference_is_told_before_the_waiting(running: Running) -> None:
    """The caller learns once what would have to be shut down, and sees what is waited for."""
    assert running.submitted == [running.ref]
    assert running.ref.provider == running.provider.name
    assert running.told
    assert ClusterRef.from_dict(json.loads(json.dumps(running.ref.to_dict()))) == running.ref


def test_scaling_up_and_down(running: Running, connection: Connection) -> None:
    """Workers come and go as asked, and tasks run on them over TLS."""
    running.provider.scale(connection, 2)
    connection.client.wait_for_workers(2, timeout=LIMIT)
    assert connection.client.submit(sum, [1, 2]).result(LIMIT) == 3
    assert all(w.address.startswith("tls://") for w in running.provider.info(connection).workers)
    assert running.provider.info(connection).requested == 2
    running.provider.scale(connection, 1)
    until(lambda: running.provider.info(connection).n_workers == 1)
    assert running.provider.info(connection).requested == 1


def test_adaptive_scaling_is_told_and_ended(running: Running, connection: Connection) -> None:
    """The bounds are told while it is on, and asking for a number ends it."""
    running.provider.adapt(connection, 1, 2)
    until(lambda: running.provider.info(connection).adaptive == (1, 2))
    until(lambda: running.provider.info(connection).n_workers >= 1)
    assert running.provider.info(connection).requested is None
    assert running.provider.info(connection).target == 1
    running.provider.scale(connection, 1)
    info = running.provider.info(connection)
    assert (info.adaptive, info.target, info.requested) == (None, None, 1)


def test_info_holds_the_label(running: Running, connection: Connection) -> None:
    """What one connection writes into the cluster, another reads."""
    connection.set_label(name="dev", owner="ada@here", fingerprint="ab12", held=True)
    other = running.connect()
    info = running.provider.info(other)
    running.provider.close(other)
    assert (info.name, info.owner, info.fingerprint, info.held) == ("dev", "ada@here", "ab12", True)
    assert info.status == "running"
    assert info.clients == 1
    assert info.uptime is not None
    assert info.dashboard_link
    assert info.dashboard_link.startswith("http://127.")


def test_another_process_sees_the_same_cluster(running: Running, connection: Connection) -> None:
    """A kernel that only has the written reference reaches the same scheduler."""
    script = (
        "import json, sys\n"
        "from daskenv_lab.cluster import ClusterRef\n"
        "from daskenv_lab.environments import from_dict\n"
        "from daskenv_lab.providers import provider_for\n"
        "given = json.load(sys.stdin)\n"
        "provider = provider_for(from_dict(given['environment']))\n"
        "connection = provider.connect(ClusterRef.from_dict(given['ref']), timeout=120)\n"
        "print(connection.describe()['id'])\n"
        "provider.close(connection)\n"
    )
    given = {"environment": running.environment.to_dict(), "ref": running.ref.to_dict()}
    process = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(given),
        env=_with_secrets(running.environment),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == connection.describe()["id"]


def test_logs_are_told_by_address(running: Running, connection: Connection) -> None:
    """The scheduler's and each worker's last lines come back."""
    running.provider.scale(connection, 1)
    connection.client.wait_for_workers(1, timeout=LIMIT)
    logs = running.provider.logs(connection, lines=5)
    [worker] = connection.info().workers
    [one] = logs_of(running, connection, worker.address).values()
    assert one
    assert logs["scheduler"]
    assert all(len(log.splitlines()) <= 20 for log in logs.values())
    with pytest.raises(UnknownNameError, match="nobody"):
        logs_of(running, connection, "nobody")


def logs_of(running: Running, connection: Connection, worker: str) -> Mapping[str, str]:
    """Ask for one worker's log."""
    return running.provider.logs(connection, lines=5, worker=worker)


def test_a_plain_client_is_refused(connection: Connection) -> None:
    """Nobody reaches the scheduler without its TLS credentials."""
    address = connection.client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.address)
    assert address.startswith("tls://")
    plain = address.replace("tls://", "tcp://")
    with pytest.raises(OSError):  # noqa: PT011 - Dask raises a plain one
        distributed.Client(plain, timeout=2, set_as_default=False)
    other = distributed.Security.temporary()
    with pytest.raises(OSError):  # noqa: PT011 - Dask raises a plain one
        distributed.Client(address, security=other, timeout=2, set_as_default=False)


def test_closing_twice_leaves_the_cluster_alone(running: Running) -> None:
    """A connection may be closed again and again, and the cluster lives on."""
    first = running.connect()
    running.provider.close(first)
    running.provider.close(first)
    assert not first.open
    with pytest.raises(ClusterGone, match="closed"):
        running.provider.info(first)
    second = running.connect()
    assert second.open
    running.provider.close(second)


def test_find_lists_it_with_its_label(running: Running, connection: Connection) -> None:
    """A cluster is found without its reference, with the label that says whose it is."""
    connection.set_label(name="dev", held=True)
    found = {info.ref: info for info in running.provider.find()}
    assert running.ref in found
    assert (found[running.ref].name, found[running.ref].held) == ("dev", True)


def test_shut_down_for_good(environment: Environment) -> None:
    """Shutting down twice is fine, and what is gone is said to be gone at once."""
    provider = provider_for(environment)
    ref = provider.create("gone", timeout=LIMIT, progress=str, on_submitted=lambda _: None)
    connection = provider.connect(ref, timeout=LIMIT)
    provider.shutdown(ref, timeout=LIMIT)
    provider.shutdown(ref, timeout=LIMIT)
    began = time.monotonic()
    with pytest.raises(ClusterGone, match="daskenv up"):
        provider.connect(ref, timeout=LIMIT)
    assert time.monotonic() - began < LIMIT / 2
    provider.close(connection)
    assert ref not in [info.ref for info in provider.find()]


def _with_secrets(environment: Environment) -> dict[str, str]:
    import os

    return {**os.environ, **{s.env_var: s.value for s in environment.secrets if s.value}}
