"""Named clusters that outlive their kernels, on the real embedded Gateway."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

import cloudpickle
import distributed
import pytest

import daskenv_lab
from daskenv_lab import ClusterRef, DaskGatewayEnvironment, inventory, registry
from daskenv_lab.errors import (
    ClusterGone,
    ConfigError,
    NotSupported,
    ProviderError,
    SettingsDiffer,
    UnknownNameError,
)
from daskenv_lab.providers import provider_for
from daskenv_lab.providers.local import server_folder
from tests.waiting import until

Kernel = Callable[[str], "subprocess.Popen[str]"]

LOCAL = DaskGatewayEnvironment("local")


def wait_for_workers(session: daskenv_lab.Session, n: int) -> None:
    """Wait until a session's cluster has exactly `n` workers."""
    until(lambda: session.info().n_workers == n)


def running() -> list[daskenv_lab.ClusterInfo]:
    """List the clusters that the embedded Gateway runs."""
    return [info for info in provider_for(LOCAL).find() if info.status in ("pending", "running")]


def test_the_story(kernel: Kernel) -> None:
    """Start, compute, scale, come back from another kernel, export, detach and destroy."""
    session = daskenv_lab.up("local", name="story", n_workers=1)
    assert session.message == "Started story: 1 worker"
    assert not session.reused
    assert session.client.submit(sum, [1, 2, 3]).result(timeout=120) == 6
    session.scale(2)
    wait_for_workers(session, 2)

    other = kernel(
        "s = daskenv_lab.up('local', name='story'); print(s.message, s.info().requested)"
    )
    out, _ = other.communicate(timeout=60)
    assert "Reusing story: 2 workers, up " in out
    assert out.strip().endswith(" 2")

    again = daskenv_lab.up("local", name="story")
    assert again.reused
    assert daskenv_lab.current() is again
    assert again.tuned() == DaskGatewayEnvironment("local", n_workers=2)
    again.down()
    assert running() == []
    assert registry.names() == []
    assert daskenv_lab.current() is None


def test_a_kernel_killed_with_9_leaves_the_cluster_for_the_next(kernel: Kernel) -> None:
    """After kill -9 of the kernel that started it, the cluster is there with its size."""
    first = kernel(
        "import time; s = daskenv_lab.up('local', name='left', n_workers=1);"
        "print('up', flush=True); time.sleep(100)"
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "up\n"
    first.kill()
    first.wait(120)
    session = daskenv_lab.up("local", name="left")
    assert session.reused
    assert session.client.submit(len, "abc").result(timeout=120) == 3


@pytest.mark.slow
def test_ten_kernels_at_once_get_one_cluster(kernel: Kernel) -> None:
    """Ten processes that call `up` with one name all succeed, with the same cluster."""
    code = "s = daskenv_lab.up('local', name='one', n_workers=1, timeout=150); print(s.ref.id)"
    outs = [p.communicate(timeout=200)[0] for p in [kernel(code) for _ in range(10)]]
    assert len({out.strip() for out in outs}) == 1, outs
    assert len(running()) == 1


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.3, 1.0, 2.0])
def test_killed_during_up(kernel: Kernel, moment: float) -> None:
    """After kill -9 at any moment of `up`, the next `up` works and nothing else stays."""
    process = kernel(
        "daskenv_lab.up('local', name='cut', n_workers=1, progress=lambda t: print(t, flush=True))"
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(moment)
    process.kill()
    process.wait(120)
    session = daskenv_lab.up("local", name="cut", n_workers=1)
    assert session.client.submit(len, "abc").result(timeout=120) == 3
    session.close()
    inventory.reap(idle=0)
    assert [info.ref for info in running()] == [session.ref]


@pytest.mark.parametrize("moment", [0.0, 0.3, 1.5])
def test_interrupted_during_up(kernel: Kernel, moment: float) -> None:
    """Ctrl-C during `up` leaves a usable cluster or none, and never a half one."""
    process = kernel(
        "daskenv_lab.up('local', name='stop', n_workers=1, progress=lambda t: print(t, flush=True))"
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    record = registry.read("stop")
    if record is None:
        assert running() == []
    else:
        assert record.ready
        assert daskenv_lab.connect("stop").client.submit(len, "abc").result(timeout=120) == 3


def test_a_cluster_that_is_gone_is_noticed_and_replaced() -> None:
    """A record whose cluster was stopped behind our back leads to a new one, and says so."""
    first = daskenv_lab.up("local", name="gone", n_workers=1)
    provider_for(LOCAL).shutdown(first.ref, timeout=120)
    assert [(i.name, i.status) for i in inventory.ls()] == [("gone", "gone")]
    with pytest.raises(ClusterGone):
        daskenv_lab.connect("gone")
    told: list[str] = []
    second = daskenv_lab.up("local", name="gone", n_workers=1, progress=told.append)
    assert second.ref != first.ref
    assert "The cluster 'gone' is gone; starting another" in told


def test_settings_that_differ() -> None:
    """The size changes live, the rest is shown as a table and needs `replace`."""
    first = daskenv_lab.up("local", name="size", n_workers=1)
    grown = daskenv_lab.up("local", name="size", n_workers=2)
    assert [(c.setting, c.running, c.asked, c.live) for c in grown.changes] == [
        ("workers", 1, 2, True)
    ]
    wait_for_workers(grown, 2)
    adaptive = daskenv_lab.up("local", name="size", adaptive_min_workers=1, adaptive_max_workers=3)
    assert adaptive.info().adaptive == (1, 3)
    assert adaptive.tuned().adaptive == (1, 3)
    assert daskenv_lab.up("local", name="size").changes == ()
    with pytest.raises(SettingsDiffer, match="--replace") as caught:
        daskenv_lab.up("local", name="size", worker_threads=2)
    assert "worker_threads  (default)  2          --replace" in str(caught.value)
    assert daskenv_lab.connect("size").ref == first.ref
    replaced = daskenv_lab.up("local", name="size", worker_threads=2, n_workers=1, replace=True)
    assert replaced.ref != first.ref
    assert replaced.info().nthreads == 2
    assert [i.ref for i in running()] == [replaced.ref]


def test_a_replacement_that_cannot_be_made_loses_nothing() -> None:
    """`replace` with settings that the Gateway refuses leaves the cluster, its record and size."""
    first = daskenv_lab.up("local", name="safe", n_workers=1)
    with pytest.raises(ProviderError, match="no cluster option 'worker_thread'"):
        daskenv_lab.up("local", name="safe", worker_thread=2, replace=True)
    assert daskenv_lab.connect("safe").ref == first.ref
    assert [i.ref for i in running()] == [first.ref]
    with pytest.raises(SettingsDiffer, match="gateway_address"):
        daskenv_lab.up("gateway", name="safe")


def test_only_up_takes_the_hold_back() -> None:
    """Looking at a detached cluster, or resizing it, leaves it detached."""
    daskenv_lab.up("local", name="seen", n_workers=0)
    inventory.detach("seen")
    session = daskenv_lab.connect("seen")
    session.scale(1)
    session.close()
    assert {i.name: i.held for i in inventory.ls()} == {"seen": False}


def test_reap_and_up_of_one_name_at_once(kernel: Kernel) -> None:
    """While a kernel starts a cluster, `reap` in others removes nothing of it."""
    starting = kernel("s = daskenv_lab.up('local', name='busy', n_workers=1); print(s.message)")
    while starting.poll() is None:
        assert inventory.reap(idle=0) == []
        time.sleep(0.2)
    assert "Started busy: 1 worker" in starting.communicate(timeout=120)[0]


def test_remote_clusters_are_told_as_they_are() -> None:
    """A cluster by address is listed as running, refuses another size, and is gone when it is."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        session = daskenv_lab.up("remote", name="theirs", address=cluster.scheduler_address)
        assert {i.name: i.status for i in inventory.ls()} == {"theirs": "running"}
        with pytest.raises(NotSupported, match="cannot be scaled to 2"):
            session.scale(2)
        session.close()
    assert {i.name: i.status for i in inventory.ls()} == {"theirs": "unreachable"}


def test_a_record_of_a_gone_cluster_is_reaped() -> None:
    """What a killed `down` leaves of a cluster is cleared away."""
    session = daskenv_lab.up("local", name="rest", n_workers=0)
    provider_for(LOCAL).shutdown(session.ref, timeout=120)
    session.close()
    assert [(i.name, i.status) for i in inventory.reap(idle=3600)] == [("rest", "gone")]
    assert registry.names() == []


def test_detach_and_reap() -> None:
    """What is held stays; what was let go is removed once nobody is connected and it is idle."""
    kept = daskenv_lab.up("local", name="kept", n_workers=0)
    loose = daskenv_lab.up("local", name="loose", n_workers=0)
    assert inventory.reap(idle=0) == []
    loose.detach()
    assert inventory.reap(idle=3600) == []
    assert [i.name for i in inventory.reap(idle=0, dry_run=True)] == ["loose"]
    assert {i.name: i.held for i in inventory.ls()} == {"kept": True, "loose": False}
    assert [i.name for i in inventory.reap(idle=0)] == ["loose"]
    assert [i.ref for i in running()] == [kept.ref]


def test_coming_back_to_a_detached_cluster_holds_it_again() -> None:
    """`up` with the name of a detached cluster takes it back, and `reap` leaves it alone."""
    session = daskenv_lab.up("local", name="back", n_workers=0)
    inventory.detach("back")
    again = daskenv_lab.up("local", name="back")
    assert again.ref == session.ref
    again.close()
    assert inventory.reap(idle=0) == []


def test_a_lost_record_loses_no_cluster() -> None:
    """Without a record the cluster is found by the name that its scheduler knows."""
    first = daskenv_lab.up("local", name="lost", n_workers=1)
    registry.forget("lost")
    first.close()
    assert [(i.name, i.owner is not None) for i in inventory.ls()] == [("lost", True)]
    assert daskenv_lab.up("local", name="lost").ref == first.ref


def test_a_cluster_without_a_name_is_listed_and_reaped() -> None:
    """One that was made behind our back on the embedded Gateway is unknown, and nobody's."""
    ref = provider_for(LOCAL).create(
        "x", timeout=60, progress=lambda _: None, on_submitted=lambda _: None
    )
    assert [(i.ref, i.name) for i in inventory.ls()] == [(ref, None)]
    assert [i.ref for i in inventory.reap(idle=0)] == [ref]
    assert running() == []


def test_unknown_names_suggest_the_nearest() -> None:
    """`connect`, `down` and `detach` of a mistyped name name the one that was meant."""
    daskenv_lab.up("local", name="weather", n_workers=0).close()
    for verb in (daskenv_lab.connect, daskenv_lab.down, daskenv_lab.detach):
        with pytest.raises(UnknownNameError, match="did you mean 'weather'"):
            verb("wether")
    with pytest.raises(ConfigError, match="cannot name a cluster"):
        daskenv_lab.up("local", name="../dev")


def test_a_session_does_not_travel() -> None:
    """Pickling a session says what to do instead."""
    session = daskenv_lab.up("local", name="stay", n_workers=0)
    for dumps in (pickle.dumps, cloudpickle.dumps):
        with pytest.raises(TypeError, match="cannot travel to a worker"):
            dumps(session)


def test_the_gateway_killed_with_9_gives_the_cluster_back() -> None:
    """After kill -9 of the embedded Gateway, `up` starts it again and finds the cluster."""
    session = daskenv_lab.up("local", name="phoenix", n_workers=1)
    session.close()
    pid = json.loads((server_folder() / "server.json").read_text())["pid"]
    subprocess.run(["kill", "-9", str(pid)], check=True, timeout=10)
    again = daskenv_lab.up("local", name="phoenix", n_workers=1)
    assert again.ref == session.ref
    assert again.client.submit(len, "abc").result(timeout=120) == 3


def test_a_record_of_a_half_created_cluster_is_reaped() -> None:
    """A record whose creator died before it had a cluster goes, and what it names is stopped."""
    session = daskenv_lab.up("local", name="half", n_workers=0)
    session.close()
    record = registry.read("half")
    assert record is not None
    registry.write(replace(record, ready=False))
    registry.write(replace(record, name="empty", ref=None, ready=False))
    assert [i.name for i in inventory.reap(idle=0)] == ["half"]
    assert registry.names() == []
    assert running() == []


def test_a_reference_survives_json() -> None:
    """A `ClusterRef` and a `ClusterInfo` are written in JSON's types."""
    ref = ClusterRef(provider="local", id="x", location="y")
    assert ClusterRef.from_dict(json.loads(json.dumps(ref.to_dict()))) == ref
    info = daskenv_lab.ClusterInfo(ref=ref, status="running")
    assert json.loads(json.dumps(info.to_dict()))["ref"]["id"] == "x"
