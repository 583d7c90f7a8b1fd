"""Logs of a cluster in CloudWatch: their ends, one worker's, and as they come."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskenv_lab import DaskCloudProviderEnvironment, rehearsal
from daskenv_lab.bounded import Deadline
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.errors import UnknownNameError
from daskenv_lab.providers.fargate import definitions, fleet, logs, shared, vault
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.providers.fargate.fleet import Order, Task
from daskenv_lab.providers.fargate.provider import FargateProvider
from daskenv_lab.providers.fargate.tags import Identity
from daskenv_lab.rehearsal import Fault

ECS_CLUSTER, GROUP = "daskenv", "/daskenv"

WRITER = """
import sys, time
for number in range(int(sys.argv[2])):
    print(sys.argv[1], number, flush=True)
    time.sleep(float(sys.argv[3]))
"""


class Writers:
    """Tasks of one made-up cluster that write lines."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.identity = Identity(cluster=vault.token(), name="writers", owner="ada@test")
        self.made = shared.ensure(aws, {}, progress=print)

    @property
    def id(self) -> str:
        """The cluster's id."""
        return self.identity.cluster

    def start(
        self, word: str, n: int, pause: float = 0.0, *, role: str = "worker", **log: object
    ) -> Task:
        """Run a task that writes `word` and a number `n` times, and wait until it runs."""
        told = definitions.definition(
            role,
            image="writer",
            cpu=256,
            memory=512,
            gpu=None,
            architecture="X86_64",
            fargate=True,
            execution_role_arn=self.made.execution_role_arn,
            task_role_arn=self.made.task_role_arn,
            log_group=self.made.log_group,
            region=self.aws.region,
            env_vars={},
            secrets={},
            mount_points=(),
            volumes=(),
            tags={},
        )
        if log:
            told["family"] = f"theirs-{log['family']}"
            told["containerDefinitions"][0].pop("logConfiguration")
            if configuration := log.get("configuration"):
                told["containerDefinitions"][0]["logConfiguration"] = configuration
        order = Order(
            ecs_cluster=ECS_CLUSTER,
            started_by=self.identity.started_by,
            request=fleet.request(
                definition=definitions.ensure(self.aws, told),
                container=f"dask-{role}",
                command=["python", "-c", WRITER, word, str(n), str(pause)],
                env_vars={},
                subnets=self.made.subnets,
                security_groups=self.made.security_groups,
                public=False,
                fargate=True,
                capacity_provider=None,
                platform_version=None,
                tags=self.identity.tags(role=role),
                further={},
            ),
        )
        limit = Deadline(30)
        tasks = fleet.run(self.aws, order, 1, deadline=limit, progress=print)
        [task] = self._until(tasks, lambda t: t.status in ("RUNNING", "STOPPED"))
        return task

    def ended(self, *tasks: Task) -> None:
        """Wait until tasks have ended."""
        self._until(list(tasks), lambda t: t.status == "STOPPED")

    def stop(self) -> None:
        """Stop all."""
        left = fleet.of_cluster(self.aws, ECS_CLUSTER, self.identity.started_by)
        fleet.stop(self.aws, ECS_CLUSTER, [t.arn for t in left], reason="test")
        self.ended(*left)

    def follow(self, **how: object) -> Iterator[tuple[str, str]]:
        """Follow the lines."""
        return logs.follow(self.aws, ECS_CLUSTER, self.id, GROUP, **how)

    def _until(self, tasks: list[Task], done: object) -> list[Task]:
        assert callable(done)
        return fleet.wait(
            self.aws,
            ECS_CLUSTER,
            [t.arn for t in tasks],
            lambda found: all(done(t) for t in found),
            deadline=Deadline(30),
        )


@pytest.fixture
def writers(aws: Aws) -> Iterator[Writers]:
    """Give a made-up cluster without tasks."""
    made = Writers(aws)
    yield made
    rehearsal.clear()
    made.stop()


def test_the_last_lines_of_all_tasks(writers: Writers) -> None:
    """Running and stopped ones, the scheduler by that word and the others by address."""
    ended = writers.start("worker", 5)
    running = writers.start("scheduler", 500, 0.1, role="scheduler")
    writers.ended(ended)
    told = logs.of_cluster(writers.aws, ECS_CLUSTER, writers.id, GROUP, 2)
    assert told[str(ended.private_ip)] == "worker 3\nworker 4"
    assert told["scheduler"].startswith("scheduler ")
    assert list(told) == ["scheduler", ended.private_ip]
    assert running.wanted


def test_one_worker_is_chosen(writers: Writers) -> None:
    """By address, IP, name, task id or its beginning; another name is answered with the nearest."""
    one, two = writers.start("one", 1), writers.start("two", 1)
    ip = str(one.private_ip)
    names = {"first": f"tls://{ip}:40123"}

    def told(worker: str) -> list[str]:
        return list(
            logs.of_cluster(
                writers.aws, ECS_CLUSTER, writers.id, GROUP, 5, worker=worker, names=names
            ).values()
        )

    writers.ended(one, two)
    for worker in (ip, f"tls://{ip}:40123", "first", one.id, one.id[:8], one.arn):
        assert told(worker) == ["one 0"], worker
    with pytest.raises(UnknownNameError, match="did you mean 'first'"):
        told("frist")
    with pytest.raises(UnknownNameError):
        told("127.77.255.255")


def test_a_definition_of_the_users_own(writers: Writers) -> None:
    """Its own log group is read; one that writes nowhere, or elsewhere, is said to."""
    group = "/theirs"
    writers.aws.call("logs", "create_log_group", logGroupName=group)
    options = {
        "awslogs-group": group,
        "awslogs-region": writers.aws.region,
        "awslogs-stream-prefix": "p",
    }
    theirs = writers.start(
        "theirs", 1, family="group", configuration={"logDriver": "awslogs", "options": options}
    )
    silent = writers.start("silent", 1, family="silent")
    splunk = writers.start("x", 1, family="splunk", configuration={"logDriver": "splunk"})
    far = {**options, "awslogs-region": "eu-west-1"}
    away = writers.start(
        "x", 1, family="far", configuration={"logDriver": "awslogs", "options": far}
    )
    writers.ended(theirs, silent, splunk, away)
    told = logs.of_cluster(writers.aws, ECS_CLUSTER, writers.id, GROUP, 5)
    assert told[str(theirs.private_ip)] == "theirs 0"
    assert "nowhere" in told[str(silent.private_ip)]
    assert "splunk" in told[str(splunk.private_ip)]
    assert "eu-west-1" in told[str(away.private_ip)]
    followed = dict(writers.follow())
    assert "nowhere" in followed[str(silent.private_ip)]
    assert followed[str(theirs.private_ip)] == "theirs 0"


@pytest.mark.slow
def test_lines_come_as_they_are_written_and_once(writers: Writers) -> None:
    """The last ones first, then each once and in order, to the last word of the last task."""
    task = writers.start("a", 40, 0.05)
    time.sleep(0.5)
    lines = [line for _, line in writers.follow(lines=2)]
    first = int(lines[0].split()[1])
    assert lines == [f"a {number}" for number in range(first, 40)]
    assert {who for who, _ in writers.follow()} == {task.private_ip}


@pytest.mark.slow
def test_tasks_that_start_meanwhile_are_picked_up(
    writers: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All lines of a later task are there, and the following ends with the last of them."""
    monkeypatch.setattr(logs, "_LOOK_FOR_TASKS", 0.5)
    writers.start("early", 40, 0.1)
    later = threading.Timer(1.0, lambda: writers.start("late", 3))
    later.start()
    lines = [line for _, line in writers.follow()]
    later.join(120)
    assert [line for line in lines if line.startswith("late")] == ["late 0", "late 1", "late 2"]
    assert lines[-1] == "early 39"


def test_following_one_worker(writers: Writers) -> None:
    """The others are not heard, and an unknown one is refused at once."""
    one = writers.start("one", 3)
    writers.start("two", 3)
    assert {line.split()[0] for _, line in writers.follow(worker=str(one.private_ip))} == {"one"}
    with pytest.raises(UnknownNameError):
        next(writers.follow(worker="nobody"))


def test_following_ends_when_told_to(writers: Writers) -> None:
    """Another thread ends it within one look."""
    writers.start("a", 600, 0.1)
    stop = threading.Event()
    followed = writers.follow(stop=stop)
    assert next(followed)[1].startswith("a ")
    stop.set()
    assert len(list(followed)) < 100


def test_closing_the_following_leaves_nothing(writers: Writers) -> None:
    """Whoever stops asking holds no thread."""
    writers.start("a", 600, 0.1)
    before = threading.active_count()
    followed = writers.follow()
    next(followed)
    followed.close()  # type: ignore[attr-defined]
    assert threading.active_count() <= before + 1


@pytest.mark.slow
def test_throttling_loses_no_line(writers: Writers) -> None:
    """More refusals than one call is tried again after still end in every line, once."""
    writers.start("a", 30, 0.1)
    rehearsal.order(Fault(kind="throttle", operation="logs:GetLogEvents", times=8, after=1))
    lines = [line for _, line in writers.follow(lines=1)]
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == list(range(numbers[0], 30))


@pytest.mark.slow
def test_a_real_cluster_is_followed_to_its_end(aws: Aws) -> None:
    """Scheduler and worker are heard, and the following ends when the cluster is down."""
    provider = FargateProvider(DaskCloudProviderEnvironment("fargate", rehearse=True, n_workers=1))
    ref: ClusterRef = provider.create("heard", timeout=60, progress=print, on_submitted=print)
    down = threading.Timer(5.0, lambda: provider.shutdown(ref, timeout=60))
    down.start()
    heard = list(logs.follow(aws, ECS_CLUSTER, ref.id, GROUP, lines=100))
    down.join(120)
    text = "\n".join(line for _, line in heard)
    assert "Register worker" in text
    assert "End scheduler" in text
    assert len({who for who, _ in heard}) == 2
    assert "PRIVATE KEY" not in text


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=8))
def test_every_task_has_a_name_of_its_own(tasks: list[tuple[int, bool]]) -> None:
    """An address that several tasks had, one by one, is that of the one that runs, or was last."""
    made = [
        Task(
            arn=f"arn:task/{number:08x}{0:024x}",
            status="RUNNING" if runs else "STOPPED",
            desired="RUNNING" if runs else "STOPPED",
            private_ip=f"10.0.0.{ip}",
            created_at=datetime.now(UTC) + timedelta(seconds=number),
        )
        for number, (ip, runs) in enumerate(tasks)
    ]
    # Two that run never have one address.
    seen: set[str | None] = set()
    for number, task in enumerate(made):
        if task.wanted and task.private_ip in seen:
            made[number] = replace(task, status="STOPPED", desired="STOPPED")
        elif task.wanted:
            seen.add(task.private_ip)
    named = logs.called(made)
    assert {t.arn for t in named.values()} == {t.arn for t in made}
    for ip, group in itertools.groupby(
        sorted(made, key=lambda t: t.private_ip or ""), key=lambda t: t.private_ip
    ):
        best = max(group, key=lambda t: (t.wanted, t.created_at))
        assert named[str(ip)].arn == best.arn
