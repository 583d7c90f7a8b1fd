"""Clusters in AWS: found again by tags from anywhere, sized by anyone, ended by themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest

import daskenv_lab
from daskenv_lab import DaskCloudProviderEnvironment, config, inventory, rehearsal
from daskenv_lab.bounded import Deadline
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.errors import ClusterGone, ClusterStartError, DaskEnvLabError, ProviderUnreachable
from daskenv_lab.providers import provider_for
from daskenv_lab.providers.fargate import fleet, listing, vault
from daskenv_lab.providers.fargate.account import account
from daskenv_lab.providers.fargate.adaptive import lease_on, scheduler_of
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.providers.fargate.fleet import Order
from daskenv_lab.providers.fargate.launch import SecretsInEnvironmentWarning
from daskenv_lab.rehearsal import Fault
from tests.waiting import until

pytestmark = pytest.mark.slow

LIMIT = 120.0
# A lambda travels by value: workers cannot import this module.
VARIABLE = lambda name: __import__("os").environ.get(name)  # noqa: E731
SIZE = {"worker_cpu": 256, "worker_mem": 512, "scheduler_cpu": 256, "scheduler_mem": 1024}
HIDDEN = "correct-horse-battery"


def environment(**settings: Any) -> DaskCloudProviderEnvironment:
    """Give an environment of small tasks in the rehearsal."""
    return DaskCloudProviderEnvironment("fargate", rehearse=True, **{**SIZE, **settings})


@pytest.fixture(scope="module")
def session(aws: Aws) -> Iterator[daskenv_lab.Session]:
    """Give a cluster with one worker and a secret variable, for all tests here."""
    asked = environment(n_workers=1, environment={"PLAIN": "seen", "DB_PASSWORD": HIDDEN})
    started = daskenv_lab.up(asked, name="lab")
    yield started
    daskenv_lab.inventory.down("lab")


@pytest.fixture
def faults(aws: Aws) -> Iterator[Callable[[Fault], Any]]:
    """Give the way to order faults, which end with the test."""
    yield rehearsal.order
    rehearsal.clear()


def create(asked: DaskCloudProviderEnvironment, *, timeout: float = LIMIT) -> ClusterRef:
    """Start a cluster by its provider alone."""
    provider = provider_for(asked)
    return provider.create("alone", timeout=timeout, progress=str, on_submitted=lambda _: None)


def nothing_left(aws: Aws, but: daskenv_lab.Session | None = None) -> bool:
    """Tell whether no task and no secret is there, but those of one session."""
    tasks = {t.identity.cluster for t in listing.running(aws) if t.identity}
    secrets = {told["Tags"]["daskenv:cluster"] for _, told in vault.kept(aws)}
    return (tasks | secrets) <= ({but.ref.id} if but else set())


def test_the_worker_has_the_memory_that_was_paid_for(session: daskenv_lab.Session) -> None:
    """A worker of 512 MiB is limited to just that, which dask-cloudprovider makes no limit."""
    [worker] = session.info().workers
    assert worker.memory_limit == 512 * 1024**2
    assert worker.nthreads == 1


def test_secrets_are_in_no_tag_override_repr_or_file(
    session: daskenv_lab.Session, aws: Aws
) -> None:
    """The TLS key and secret variables reach the worker, and nobody who may look at tasks."""
    read = session.client.submit(VARIABLE, "DB_PASSWORD").result(LIMIT)
    assert read == HIDDEN
    assert session.client.submit(VARIABLE, "PLAIN").result(LIMIT) == "seen"
    key = vault.fetch(aws, "daskenv/slot-000")["key"].splitlines()[1]
    arns = [t.arn for t in listing.running(aws)]
    tasks = aws.call("ecs", "describe_tasks", cluster="daskenv", tasks=arns, include=["TAGS"])
    families = aws.pages("ecs", "list_task_definitions", "taskDefinitionArns")
    told = [
        aws.call("ecs", "describe_task_definition", taskDefinition=arn, include=["TAGS"])
        for arn in families
    ]
    logs = "\n".join(session.logs(lines=1000).values())
    files = "\n".join(
        path.read_text(errors="replace")
        for path in config.state_dir().rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077
    )
    seen = [str(tasks), str(told), logs, files, repr(session.environment), repr(session.tuned())]
    for text in [*seen, json.dumps(session.environment.to_dict())]:
        assert HIDDEN not in text
        assert key not in text


def test_another_machine_finds_it_by_its_tags(session: daskenv_lab.Session, tmp_path: Path) -> None:
    """With no record, and another host name, the same person gets the same cluster."""
    user = config.owner().split("@")[0]
    with another_machine(tmp_path / "second", owner=f"{user}@elsewhere"):
        listed = [(i.name, i.n_workers) for i in inventory.ls(environment())]
        assert listed == [("lab", 1)]
        script = (
            "import daskenv_lab\n"
            "found = daskenv_lab.up('fargate', name='lab', rehearse=True)\n"
            "assert found.client.submit(len, 'abc').result(120) == 3\n"
            "print(found.reused, found.ref.id)\n"
        )
        told = subprocess.run(
            [sys.executable, "-c", script],
            env={
                **os.environ,
                "DASK_DASKENV__STATE_DIR": str(config.state_dir()),
                "DASK_DASKENV__OWNER": config.owner(),
            },
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert told.stdout.split() == ["True", session.ref.id], told.stderr


def test_nobody_takes_the_cluster_of_another_person(
    session: daskenv_lab.Session, tmp_path: Path
) -> None:
    """It is listed with its owner, and neither asked, reused nor reaped."""
    with another_machine(tmp_path / "third", owner="eve@elsewhere"):
        [info] = inventory.ls(environment())
        assert (info.name, info.held) == ("lab", None)
        assert info.owner == session.info().owner
        assert inventory.reap(environment(), idle=0) == []
    assert session.info().status == "running"


@contextmanager
def another_machine(folder: Path, *, owner: str) -> Iterator[None]:
    """Play a machine that knows the AWS account, and has no records."""
    server = rehearsal.server_folder()
    folder.mkdir()
    (folder / server.name).symlink_to(server, target_is_directory=True)
    with dask.config.set({"daskenv.state-dir": str(folder), "daskenv.owner": owner}):
        yield


def test_two_sessions_that_scale_at_once_start_no_worker_twice(
    session: daskenv_lab.Session, aws: Aws
) -> None:
    """Whoever scales adopts what the other started."""
    provider = provider_for(session.environment)
    connections = [provider.connect(session.ref, timeout=LIMIT) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda c: provider.scale(c, 3), connections))
    for connection in connections:
        provider.close(connection)
    workers = [t for t in listing.running(aws) if t.role == "worker"]
    assert len(workers) == 3
    session.client.wait_for_workers(3, timeout=LIMIT)
    session.scale(1)
    until(lambda: session.info().n_workers == 1)
    until(lambda: len([t for t in listing.running(aws) if t.role == "worker"]) == 1)


def test_adaptive_scaling_has_one_holder(session: daskenv_lab.Session, aws: Aws) -> None:
    """The lease is in the scheduler's tags, a second session follows it, and `scale` ends it."""
    with dask.config.set({"daskenv.fargate.adaptive-interval": 0.5}):
        session.adapt(1, 2)
        until(lambda: session.info().adaptive_holder == config.owner())
        scheduler = scheduler_of(aws, "daskenv", session.ref)
        assert scheduler
        lease = lease_on(scheduler)
        assert lease
        assert lease.holder == config.owner()
        other = provider_for(session.environment)
        connection = other.connect(session.ref, timeout=LIMIT)
        other.adapt(connection, 1, 3)
        other.close(connection)
        again = scheduler_of(aws, "daskenv", session.ref)
        assert again
        assert lease_on(again) == lease
        assert session.info().adaptive == (1, 3)
        session.scale(1)
    until(lambda: session.info().adaptive is None)
    ended = scheduler_of(aws, "daskenv", session.ref)
    assert ended
    assert lease_on(ended) is None


def test_status_tells_when_it_ends_and_keep_alive_puts_that_off(
    session: daskenv_lab.Session,
) -> None:
    """The time left is shown, and grows when asked."""
    left = session.info().stops_in
    assert left is not None
    assert 1700 < left <= 1800
    assert session.keep_alive(7200) == pytest.approx(7200, abs=1)
    assert session.info().stops_in == pytest.approx(7200, abs=5)


def test_an_idle_cluster_ends_itself_and_up_says_so(aws: Aws) -> None:
    """Without tasks and clients it is gone after its time, secret and all, and the next is new."""
    asked = environment(n_workers=1, scheduler_timeout="4 seconds")
    first = daskenv_lab.up(asked, name="idle")
    ref = first.ref
    time.sleep(7)
    assert first.info().status == "running"  # a client is connected
    first.close()
    until(lambda: scheduler_of(aws, "daskenv", ref) is None)
    told: list[str] = []
    second = daskenv_lab.up(asked, name="idle", progress=told.append)
    assert not second.reused
    assert any("shut itself down" in sentence for sentence in told)
    second.down()
    until(lambda: all(i.ref != ref for i in inventory.ls(environment())))


def test_a_scheduler_that_cannot_start_is_told_with_its_reason(
    aws: Aws, session: daskenv_lab.Session, faults: Callable[[Fault], Any]
) -> None:
    """An image that cannot be pulled, and a command that fails, end in a sentence, at once."""
    faults(Fault(kind="no-image"))
    with pytest.raises(ClusterStartError, match="CannotPullContainerError"):
        create(environment())
    rehearsal.clear()
    with pytest.raises(ClusterStartError, match=r"(?s)exit code 2.*No such option"):
        create(environment(scheduler_extra_args=["--no-such-option"]))
    assert nothing_left(aws, but=session)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="throttle", operation="ecs:*", times=3),
        Fault(kind="server-error", operation="secretsmanager:*", times=2),
        Fault(kind="no-interface", times=1),
        Fault(kind="no-capacity", times=1),
        Fault(kind="slow", times=3, seconds=1),
        Fault(kind="down", times=2),
    ],
    ids=lambda fault: fault.kind,
)
def test_passing_faults_are_waited_out(
    aws: Aws, session: daskenv_lab.Session, faults: Callable[[Fault], Any], fault: Fault
) -> None:
    """What passes on AWS is tried again, and the cluster comes."""
    provider = provider_for(environment(n_workers=1))
    faults(fault)
    ref = create(environment(n_workers=1))
    connection = provider.connect(ref, timeout=LIMIT)
    connection.client.wait_for_workers(1, timeout=LIMIT)
    provider.close(connection)
    provider.shutdown(ref, timeout=LIMIT)
    assert nothing_left(aws, but=session)


def test_lasting_faults_end_in_a_sentence(
    aws: Aws, session: daskenv_lab.Session, faults: Callable[[Fault], Any]
) -> None:
    """No capacity at all, and no permission, are told with the next step; nothing stays."""
    faults(Fault(kind="no-capacity"))
    with pytest.raises(DaskEnvLabError, match="Capacity is unavailable"):
        create(environment(), timeout=5)
    rehearsal.clear()
    faults(Fault(kind="denied", operation="ecs:RunTask"))
    with pytest.raises(DaskEnvLabError, match="bootstrap --policy use"):
        create(environment())
    rehearsal.clear()
    assert nothing_left(aws, but=session)


def test_without_secrets_manager_the_key_goes_in_the_open_and_that_is_told(
    aws: Aws, session: daskenv_lab.Session, faults: Callable[[Fault], Any]
) -> None:
    """Where no secret may be made, the cluster works all the same, with a warning."""
    asked = environment(n_workers=1)
    faults(Fault(kind="denied", operation="secretsmanager:CreateSecret"))
    with pytest.warns(SecretsInEnvironmentWarning, match="overrides"):
        ref = create(asked)
    provider = provider_for(asked)
    connection = provider.connect(ref, timeout=LIMIT)
    connection.client.wait_for_workers(1, timeout=LIMIT)
    assert connection.address.startswith("tls://")
    provider.close(connection)
    provider.shutdown(ref, timeout=LIMIT)
    assert nothing_left(aws, but=session)


def test_workers_taken_back_by_spot_are_told(
    aws: Aws, session: daskenv_lab.Session, faults: Callable[[Fault], Any]
) -> None:
    """A task that AWS takes back is named with AWS's reason, and scaling replaces it."""
    session.scale(1)
    until(lambda: session.info().n_workers == 1)
    [worker] = [t for t in listing.running(aws) if t.role == "worker"]
    faults(Fault(kind="spot", task=worker.arn, times=1))
    until(lambda: session.info().n_workers == 0)
    provider = provider_for(session.environment)
    until(lambda: any("Spot" in told for told in provider.troubles(session.connection)))
    session.scale(1)
    until(lambda: session.info().n_workers == 1)


def test_an_address_that_was_not_let_in_is_refused(empty_aws: Aws) -> None:
    """The group lets in one address alone, which here is not the caller's."""
    asked = environment(allow_from="203.0.113.9/32")
    with pytest.raises(DaskEnvLabError, match="nothing answers at its port"):
        create(asked, timeout=15)
    assert nothing_left(empty_aws)


def test_the_caller_alone_is_let_in(session: daskenv_lab.Session, aws: Aws) -> None:
    """The shared group is open to the caller's address, and to no other."""
    scheduler = scheduler_of(aws, "daskenv", session.ref)
    assert scheduler
    assert rehearsal.reach("127.0.0.1/32", scheduler.arn, 8786).allowed
    assert not rehearsal.reach("203.0.113.9/32", scheduler.arn, 8786).allowed


def test_the_users_own_certificates_work_as_they_are_documented(
    aws: Aws, session: daskenv_lab.Session, tmp_path: Path
) -> None:
    """`security` with files, and the arguments that name them in the image, go through as given."""
    theirs = distributed.Security.temporary()
    files = {}
    for name in ("ca_file", "client_cert", "client_key"):
        files[name] = tmp_path / f"{name}.pem"
        files[name].write_text(getattr(theirs, f"tls_{name}"))
    arguments = [
        "--tls-ca-file", str(files["ca_file"]),
        "--tls-cert", str(files["client_cert"]),
        "--tls-key", str(files["client_key"]),
    ]  # fmt: skip
    asked = environment(
        n_workers=1,
        security=distributed.Security(
            tls_ca_file=str(files["ca_file"]),
            tls_client_cert=str(files["client_cert"]),
            tls_client_key=str(files["client_key"]),
            require_encryption=True,
        ),
        scheduler_extra_args=[*arguments, "--protocol", "tls"],
        worker_extra_args=arguments,
    )
    provider = provider_for(asked)
    ref = create(asked)
    connection = provider.connect(ref, timeout=LIMIT)
    connection.client.wait_for_workers(1, timeout=LIMIT)
    assert connection.client.submit(len, "abc").result(LIMIT) == 3
    assert {told["Tags"]["daskenv:cluster"] for _, told in vault.kept(aws)} == {session.ref.id}
    provider.close(connection)
    provider.shutdown(ref, timeout=LIMIT)


def test_a_rehearsal_that_ended_is_told(aws: Aws) -> None:
    """A reference to a cluster that is not there says that it is gone; looking never starts one."""
    provider = provider_for(environment())
    with pytest.raises(ClusterGone, match="daskenv up"):
        provider.connect(
            ClusterRef(provider="fargate", id="0" * 16, location="rehearsal"), timeout=5
        )
    provider.shutdown(ClusterRef(provider="fargate", id="0" * 16), timeout=5)
    with dask.config.set({"daskenv.state-dir": str(config.state_dir() / "empty")}):
        asked = environment()
        with pytest.raises(ProviderUnreachable, match="rehearse start"):
            account(asked)


def test_twenty_workers_take_two_calls(aws: Aws, session: daskenv_lab.Session) -> None:
    """RunTask asks for up to ten workers at once, and the task definitions are used again."""
    order = Order.from_dict(session.connection.label()["workers_order"])
    rehearsal.forget_calls()
    tasks = fleet.run(aws, order, 20, deadline=Deadline(LIMIT), progress=str)
    assert rehearsal.calls()["ecs:RunTask"] == 2
    fleet.stop(aws, "daskenv", [t.arn for t in tasks], reason="seen")
    assert len({t.definition for t in listing.running(aws) if t.role == "worker"}) == 1
