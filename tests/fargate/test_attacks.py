"""Clusters in AWS under attack: lost workers, dead holders, frozen schedulers, odd names."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import dask
import psutil
import pytest

import daskenv_lab
from daskenv_lab import DaskCloudProviderEnvironment, config, inventory, registry, rehearsal
from daskenv_lab.background import read_record, recorded_process
from daskenv_lab.bounded import Deadline
from daskenv_lab.environments.secret import Secret
from daskenv_lab.errors import EnvironmentValueError, ProviderUnreachable, WaitTimeout
from daskenv_lab.providers import provider_for
from daskenv_lab.providers.fargate import adaptive, fleet, inscheduler, listing, scaling, vault
from daskenv_lab.providers.fargate.aws import Aws, NotPermitted
from daskenv_lab.providers.fargate.tags import Identity, allowed
from daskenv_lab.rehearsal import Fault
from tests.waiting import until

LIMIT = 120.0
# A lambda travels by value: workers cannot import this module.
VARIABLE = lambda name: __import__("os").environ.get(name)  # noqa: E731
SIZE = {"worker_cpu": 256, "worker_mem": 512, "scheduler_cpu": 256, "scheduler_mem": 1024}
ODD = 'CORP\\zoë "z" <z>@höst'
"""An owner whom no tag takes as written."""


def environment(**settings: Any) -> DaskCloudProviderEnvironment:
    """Give an environment of small tasks in the rehearsal."""
    return DaskCloudProviderEnvironment("fargate", rehearse=True, **{**SIZE, **settings})


@pytest.fixture(scope="module")
def session(aws: Aws) -> Iterator[daskenv_lab.Session]:
    """Give a cluster with one worker, of an owner whose name no tag takes."""
    with dask.config.set({"daskenv.fargate.adaptive-interval": 0.5, "daskenv.owner": ODD}):
        os.environ["DASK_DASKENV__FARGATE__ADAPTIVE_INTERVAL"] = "0.5"  # for the holder
        yield daskenv_lab.up(environment(n_workers=1), name="attacked")
        inventory.down("attacked")
        del os.environ["DASK_DASKENV__FARGATE__ADAPTIVE_INTERVAL"]


def holder_of(session: daskenv_lab.Session) -> Any:
    """Find this machine's process that follows a cluster's load."""
    folder = config.state_dir() / "fargate-adaptive" / session.ref.id
    return recorded_process(read_record(folder / adaptive.RECORD))


def test_an_odd_owner_becomes_a_tag_that_aws_takes() -> None:
    """What a tag does not take is replaced, and a lease stays whole however long the owner is."""
    assert allowed(ODD) == "CORP_zo_ _z_ _z_@h_st"
    tags = Identity(cluster="8f", name="dev", owner="x" * 400).tags()
    assert len(tags["daskenv:owner"]) == 256
    lease = adaptive.Lease(holder="ö" * 400, token="8f3e", until=2e9)
    written = lease.tag()
    assert len(written) <= 256
    assert adaptive.Lease.from_tag(written) == adaptive.Lease(
        holder="_" * 200, token="8f3e", until=2e9
    )


@pytest.mark.parametrize("word", ["startedBy", "count", "cluster", "clientToken"])
def test_what_tasks_are_found_by_cannot_be_given(word: str) -> None:
    """An argument of RunTask that would hide or double tasks is refused with a sentence."""
    with pytest.raises(EnvironmentValueError, match=f"cannot hold '{word}'"):
        provider_for(environment(worker_task_kwargs={word: "3"}))


def test_the_users_tags_of_a_task_do_not_take_ours_away() -> None:
    """Tags given as an argument of RunTask stand beside those by which a task is found."""
    told = fleet.request(
        definition="d",
        container="c",
        command=[],
        env_vars={},
        subnets=[],
        security_groups=[],
        public=True,
        fargate=True,
        capacity_provider=None,
        platform_version=None,
        tags={"daskenv:cluster": "8f"},
        further={"tags": [{"key": "team", "value": "a"}, {"key": "daskenv:cluster", "value": "x"}]},
    )
    tags = {t["key"]: t["value"] for t in told["tags"]}
    assert tags == {"team": "a", "daskenv:cluster": "8f"}


@pytest.mark.slow
def test_adaptive_scaling_replaces_a_worker_that_spot_took(
    session: daskenv_lab.Session, aws: Aws
) -> None:
    """A worker that AWS takes back comes again, though the load has not changed."""
    session.adapt(1, 2)
    until(lambda: session.info().adaptive_holder)
    [worker] = [t for t in listing.running(aws) if t.role == "worker"]
    rehearsal.order(Fault(kind="spot", task=worker.arn, times=1))
    until(lambda: session.info().n_workers == 0)
    until(lambda: session.info().n_workers == 1)


@pytest.mark.slow
def test_who_only_scales_is_no_client(session: daskenv_lab.Session) -> None:
    """The process that follows the load keeps a cluster neither from `reap` nor from its end."""
    session.adapt(1, 2)
    until(lambda: holder_of(session))
    until(lambda: scaling.on_scheduler(session.connection, inscheduler.attending) == 1)
    assert session.info().clients == 0
    asked = environment(adaptive_max_workers=2, adaptive_min_workers=0, scheduler_timeout=8)
    idle = daskenv_lab.up(asked, name="idling")
    until(lambda: idle.info().adaptive_holder)
    ref = idle.ref
    idle.close()
    until(lambda: adaptive.scheduler_of(aws_of(idle), "daskenv", ref) is None)
    until(lambda: holder_of(idle) is None)
    inventory.down("idling")


def aws_of(session: daskenv_lab.Session) -> Aws:
    """Give the way to a session's account."""
    from daskenv_lab.providers.fargate.account import account

    assert isinstance(session.environment, DaskCloudProviderEnvironment)
    return account(session.environment)


@pytest.mark.slow
def test_a_killed_holder_is_followed_by_another(session: daskenv_lab.Session, aws: Aws) -> None:
    """Its lease is still good; the next one waits until it has run out. A new kernel is enough."""
    session.adapt(1, 2)
    until(lambda: session.info().adaptive_holder)
    until(lambda: holder_of(session)).kill()
    scheduler = adaptive.scheduler_of(aws, "daskenv", session.ref)
    assert scheduler
    dead = adaptive.Lease(holder=allowed(ODD), token="dead", until=time.time() + 5)
    adaptive.write(aws, scheduler, dead)
    again = daskenv_lab.up(
        environment(adaptive_min_workers=1, adaptive_max_workers=2), name="attacked"
    )
    assert again.changes == ()
    until(lambda: holder_of(session))

    def taken() -> bool:
        now = adaptive.scheduler_of(aws, "daskenv", session.ref)
        lease = adaptive.lease_on(now) if now else None
        return lease is not None and lease.token != "dead"

    until(taken)
    assert time.time() > dead.until - 1
    session.scale(1)


@pytest.mark.slow
def test_a_frozen_holder_is_replaced(session: daskenv_lab.Session, aws: Aws) -> None:
    """One that lets its lease run out, and neither scales nor ends, makes room for another."""
    session.adapt(1, 2)
    frozen = until(lambda: session.info().adaptive_holder and holder_of(session))
    os.kill(frozen.pid, signal.SIGSTOP)
    scheduler = adaptive.scheduler_of(aws, "daskenv", session.ref)
    assert scheduler
    over = adaptive.Lease(holder=allowed(ODD), token="over", until=time.time() - 1)
    adaptive.write(aws, scheduler, over)
    session.adapt(1, 3)
    assert not frozen.alive
    until(lambda: holder_of(session))
    session.scale(1)


@pytest.mark.slow
def test_whoever_dies_in_its_turn_blocks_nobody(session: daskenv_lab.Session) -> None:
    """The right to scale ends with the client that had it, and not minutes later."""
    provider = provider_for(session.environment)
    other = provider.connect(session.ref, timeout=LIMIT)
    taken = scaling.on_scheduler(
        other, inscheduler.take_turn, token="other", seconds=180.0, client=other.client.id
    )
    assert taken
    with pytest.raises(WaitTimeout, match="another session"):
        scaling.turn(session.connection, Deadline(0.5)).__enter__()
    provider.close(other)
    with scaling.turn(session.connection, Deadline(10)):
        pass


@pytest.mark.slow
def test_a_frozen_scheduler_is_not_gone(session: daskenv_lab.Session, aws: Aws) -> None:
    """`up` from another kernel says that it does not answer, and does not destroy the cluster."""
    scheduler = adaptive.scheduler_of(aws, "daskenv", session.ref)
    assert scheduler
    [process] = [
        p for p in psutil.process_iter(["cmdline"])
        if {"distributed.cli.dask_scheduler", scheduler.private_ip} <= set(p.info["cmdline"] or ())
    ]  # fmt: skip
    provider = provider_for(session.environment)
    process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(ProviderUnreachable, match="runs and does not answer"):
            provider.connect(session.ref, timeout=5)
    finally:
        process.send_signal(signal.SIGCONT)
    again = provider.connect(session.ref, timeout=LIMIT)
    assert again.info().status == "running"
    provider.close(again)


@pytest.mark.slow
def test_an_owner_whom_no_tag_takes_finds_and_reaps_what_is_his(
    session: daskenv_lab.Session, aws: Aws
) -> None:
    """By the tags it is known that a cluster, or what is left of one, is this owner's."""
    [info] = [i for i in inventory.ls(environment()) if i.ref == session.ref]
    assert (info.owner, info.status) == (ODD, "running")
    identity = Identity(cluster="0" * 16, name="remains", owner=ODD)
    vault.put(aws, lambda _: identity, {"key": "none"})
    time.sleep(1.5)
    with dask.config.set({"daskenv.timeouts.start": "1 second"}):
        [removed] = inventory.reap(environment(), idle=3600)
    assert (removed.name, removed.owner) == ("remains", ODD)


@pytest.mark.slow
def test_a_secret_variable_may_bear_any_name(aws: Aws) -> None:
    """One that is called as a part of the TLS material takes not its place."""
    mine = {"key": Secret("MINE", "hidden"), "certificate": Secret("MINE", "hidden too")}
    started = daskenv_lab.up(environment(n_workers=1, environment=mine), name="keys")
    try:
        assert started.client.submit(VARIABLE, "key").result(LIMIT) == "hidden"
        assert started.client.submit(VARIABLE, "certificate").result(LIMIT) == "hidden too"
    finally:
        inventory.down("keys")


@pytest.mark.slow
def test_what_was_refused_before_the_start_leaves_no_record(aws: Aws) -> None:
    """Nothing was started, so nothing has to be removed, and the sentence tells the cause alone."""
    rehearsal.order(Fault(kind="denied", operation="ecs:*"))
    try:
        with pytest.raises(NotPermitted, match="bootstrap --policy use"):
            daskenv_lab.up(environment(), name="refused")
    finally:
        rehearsal.clear()
    assert registry.read("refused") is None


@pytest.mark.slow
def test_a_slow_start_leaves_no_short_time_limit(session: daskenv_lab.Session) -> None:
    """What was left for the first connection is no limit for the questions after it."""
    limits = (session.client.rpc.timeout, session.client._timeout)
    assert limits == (config.seconds("timeouts.connect"),) * 2
