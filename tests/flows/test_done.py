"""Being told when Dask is done, and what of Dask's internals that counts on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import Client, Event, LocalCluster, Security, as_completed

from daskenv_lab.flows.done import Telling
from tests.waiting import until


class Told:
    """What was told, in which order and in which thread."""

    def __init__(self) -> None:
        self.whats: list[Any] = []
        self.threads: set[str] = set()

    def __call__(self, what: Any) -> None:
        """Take note; some of it fails."""
        self.whats.append(what)
        self.threads.add(threading.current_thread().name)
        if what == "fails":
            raise ValueError("told badly")


@pytest.fixture(scope="module")
def client(cluster: LocalCluster, security: Security) -> Iterator[Client]:
    """Give a client of the cluster."""
    with Client(cluster.scheduler_address, security=security, set_as_default=False) as client:
        yield client


@pytest.fixture
def told() -> Told:
    """Give a list of what is told."""
    return Told()


@pytest.fixture
def telling(told: Told) -> Iterator[Telling]:
    """Give what tells, and close it."""
    telling = Telling(told)
    yield telling
    telling.close()


def of_no_module() -> tuple[Callable[[int], float], Callable[[str], int]]:
    """Give functions that travel as they are: workers have no tests to import."""

    def divide(x: int) -> float:
        return 1 / x

    def release(name: str) -> int:
        """Wait on the cluster until a test lets go."""
        return int(Event(name).wait(30))

    return divide, release


divide, release = of_no_module()


def test_each_end_is_told_once(client: Client, telling: Telling, told: Told) -> None:
    """One that finished, one that failed and one that was cancelled, in a thread of its own."""
    good, bad = client.map(divide, [1, 0], pure=False)
    gone = client.submit(release, "never-set", pure=False)
    telling.add(client, [(good, "good"), (bad, "bad"), (gone, "gone")])
    until(lambda: set(told.whats) == {"good", "bad"})
    gone.cancel()
    until(lambda: "gone" in told.whats)
    Event("never-set", client=client).set()
    assert sorted(told.whats) == ["bad", "gone", "good"]
    assert all(name.startswith("daskenv-ends") for name in told.threads)


def test_those_that_are_done_or_awaited_are_told_too(
    client: Client, telling: Telling, told: Told
) -> None:
    """Whether Dask's own event is there already or not."""
    done = client.submit(divide, 4, pure=False)
    done.result(timeout=30)
    awaited = client.submit(release, "awaited", pure=False)
    waiting = threading.Thread(target=awaited.result, daemon=True)
    waiting.start()
    until(lambda: awaited._state._event is not None)
    telling.add(client, [(done, "done"), (awaited, "awaited")])
    Event("awaited", client=client).set()
    until(lambda: sorted(told.whats) == ["awaited", "done"])
    waiting.join(10)


def test_dask_waits_for_what_is_told(client: Client, telling: Telling, told: Told) -> None:
    """Its own ways of waiting work as ever, before the end and after it."""
    futures = [client.submit(release, f"waits-{i}", pure=False) for i in range(2)]
    telling.add(client, [(future, i) for i, future in enumerate(futures)])
    until(lambda: all(type(f._state._event).__name__ == "_End" for f in futures))
    gathered: list[Any] = []
    gathering = threading.Thread(target=lambda: gathered.extend(client.gather(futures)))
    gathering.start()
    time.sleep(0.2)
    for i in range(2):
        Event(f"waits-{i}", client=client).set()
    gathering.join(30)
    assert gathered == [1, 1]
    assert [future.result() for future in futures] == [1, 1]
    assert len(list(as_completed(futures, loop=client.loop, timeout=10))) == 2
    until(lambda: sorted(told.whats) == [0, 1])


def test_what_runs_again_is_told_once(client: Client, telling: Telling, told: Told) -> None:
    """One that is retried after an error is awaited by Dask again, and not told again."""
    failed = client.submit(divide, 0, pure=False)
    telling.add(client, [(failed, "failed")])
    until(lambda: told.whats == ["failed"])
    client.retry([failed])
    assert isinstance(failed.exception(timeout=30), ZeroDivisionError)
    assert told.whats == ["failed"]


def test_a_thousand_are_told(client: Client, telling: Telling, told: Told) -> None:
    """All of them, and once."""
    futures = client.map(divide, range(1, 1001), pure=False)
    telling.add(client, list(zip(futures, range(1000), strict=True)))
    until(lambda: len(told.whats) == 1000)
    assert sorted(told.whats) == list(range(1000))


def test_what_fails_does_not_stop_the_next(
    client: Client, telling: Telling, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged."""
    for what in ("fails", "next"):
        telling.add(client, [(client.submit(divide, 1, pure=False), what)])
        until(lambda what=what: what in told.whats)
    assert "told badly" in caplog.text


def test_nothing_is_told_once_it_is_closed(client: Client, told: Told) -> None:
    """Also where it never told anything; Dask goes on."""
    for before in (0, 1):
        telling = Telling(told)
        for i in range(before):
            telling.add(client, [(client.submit(divide, 1, pure=False), i)])
            until(lambda: told.whats == [0])
        telling.close()
        late = client.submit(divide, 2, pure=False)
        telling.add(client, [(late, "late")])
        assert late.result(timeout=30) == 0.5
    assert "late" not in told.whats


def test_a_scheduler_that_goes_is_told(told: Told) -> None:
    """What it ran is told as done, and Dask says that it is lost."""
    with (
        LocalCluster(
            n_workers=1, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster.scheduler_address, timeout=10) as client,
    ):
        telling = Telling(told)
        future = client.submit(time.sleep, 1, pure=False)
        telling.add(client, [(future, "lost")])
        until(lambda: type(future._state._event).__name__ == "_End")
        cluster.close()
        until(lambda: told.whats == ["lost"])
        assert future.status in ("cancelled", "lost")
        telling.close()
