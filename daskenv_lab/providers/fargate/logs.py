"""What the processes of a cluster wrote, read from CloudWatch Logs: its end, or as it comes."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daskenv_lab.bounded import Deadline
from daskenv_lab.errors import ProviderUnreachable, UnknownNameError, did_you_mean
from daskenv_lab.providers.fargate import fleet
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused
from daskenv_lab.providers.fargate.definitions import FAMILY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from daskenv_lab.providers.fargate.fleet import Task

_READERS = 4
_MOST_LINES = 10_000  # CloudWatch gives no more with one call
_MOST_PAGES = 20
"""Pages of one stream that are read in a row while others wait."""

_POLL, _LONGEST_POLL = 1.0, 30.0
_LOOK_FOR_TASKS = 5.0
_LAST_WORDS = 2.0
"""Seconds after a task's end in which CloudWatch may still get lines of it."""
_GIVE_UP = 300.0
"""Seconds without any answer from AWS, its own retries included, after which following ends."""

_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_SHORT = 8

Event = tuple[int, str]
"""Milliseconds since 1970, and a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a container writes, or why that cannot be read."""

    group: str = ""
    prefix: str = FAMILY
    unreadable: str = ""

    def stream(self, task: Task) -> str:
        """Name a task's stream, as ECS does."""
        return f"{self.prefix}/{task.container}/{task.id}"


def stream(task: Task) -> str:
    """Name the stream of a task with a definition of ours."""
    return Place().stream(task)


def tail(aws: Aws, group: str, name: str, *, lines: int) -> str:
    """Give the last lines of a stream; empty if nothing was written yet.

    Raises
    ------
    NotPermitted, ProviderUnreachable
    """
    events, _ = _last(aws, group, name, lines)
    return "\n".join(line for _, line in events)


def of_cluster(
    aws: Aws,
    ecs_cluster: str,
    cluster: str,
    group: str,
    lines: int,
    *,
    worker: str | None = None,
    names: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give the last lines of each task of a cluster, those' too that ended, by address.

    Parameters
    ----------
    aws, ecs_cluster
        The account, and the ECS cluster.
    cluster : str
        The cluster's id.
    group : str
        The log group of a task whose definition is gone.
    lines : int
        How many of each.
    worker : str, optional
        Only this one's: its address, IP, task id or the beginning of it, ``scheduler``, or a name
        in `names`.
    names : mapping of str to str, optional
        The addresses of workers by the names that Dask has for them.

    Returns
    -------
    dict of str to str
        A sentence in place of the lines for a task that writes elsewhere, or nowhere.

    Raises
    ------
    UnknownNameError
        No task fits `worker`.
    NotPermitted, ProviderUnreachable
    """
    tasks = _tasks(aws, ecs_cluster, cluster)
    # Those that were told to stop have nothing to tell, unless one is asked for.
    shown = tasks if worker else [t for t in tasks if t.wanted or t.stop_code != "UserInitiated"]
    named = chosen(called(shown), worker, names or {})
    places = _Places(aws, group)

    def read(task: Task) -> str:
        place = places.of(task)
        return place.unreadable or tail(aws, place.group, place.stream(task), lines=lines)

    with ThreadPoolExecutor(_READERS, thread_name_prefix="daskenv-logs") as pool:
        return dict(zip(named, pool.map(read, named.values()), strict=True))


def follow(
    aws: Aws,
    ecs_cluster: str,
    cluster: str,
    group: str,
    *,
    worker: str | None = None,
    names: Mapping[str, str] | None = None,
    stop: threading.Event | None = None,
    lines: int = 10,
) -> Iterator[tuple[str, str]]:
    """Go through what a cluster's tasks write, in the order of time, until they are no more.

    Tasks that start meanwhile are picked up, all of their lines. It ends when the cluster is gone
    and all is read, or when `stop` is set.

    Parameters
    ----------
    aws, ecs_cluster, cluster, group, worker, names
        As for `of_cluster`.
    stop : threading.Event, optional
        Ends the following from another thread.
    lines : int
        How many of the lines that are there already come first, of each task.

    Yields
    ------
    tuple of str and str
        Who wrote it, and a line.

    Raises
    ------
    UnknownNameError
        No task fits `worker`.
    ProviderUnreachable
        AWS has not answered for five minutes.
    NotPermitted
    """
    following = _Following(aws, ecs_cluster, cluster, _Places(aws, group), lines)
    stop = stop or threading.Event()
    following.find(worker, names or {})
    looked, silence, pause = Deadline(_LOOK_FOR_TASKS), Deadline(_GIVE_UP), _POLL
    while not stop.is_set():
        try:
            if looked.passed or following.waits_for_last_words:
                following.find(worker, names or {})
                looked = Deadline(_LOOK_FOR_TASKS)
            yield from following.read()
        except ProviderUnreachable:
            # Throttled, say, and botocore has tried long enough for one call.
            if silence.passed:
                raise
            pause = min(pause * 2, _LONGEST_POLL)
        else:
            silence, pause = Deadline(_GIVE_UP), _POLL
            if following.over:
                return
        stop.wait(pause)


def called(tasks: Iterable[Task]) -> dict[str, Task]:
    """Name each task: ``scheduler``, or its IP; an address may have had several, one by one."""
    named: dict[str, Task] = {}
    # Those that run, or were last, have the plain names.
    for task in sorted(tasks, key=lambda t: (t.wanted, _age(t)), reverse=True):
        plain = "scheduler" if task.role == "scheduler" else task.private_ip or task.id
        named[plain if plain not in named else f"{plain} ({task.id[:_SHORT]})"] = task
    return dict(sorted(named.items(), key=lambda item: (item[1].role, _age(item[1]))))


def chosen(
    named: Mapping[str, Task], worker: str | None, names: Mapping[str, str]
) -> dict[str, Task]:
    """Pick the tasks of one worker out of those that `called` named; all, if none is asked for.

    Raises
    ------
    UnknownNameError
        None fits, or the beginning of an id fits several.
    """
    if worker is None:
        return dict(named)
    address = _IPV4.search(names.get(worker, worker))
    found = {
        who: task
        for who, task in named.items()
        if worker in (who, task.id, task.arn) or (address and task.private_ip == address[0])
    }
    if found:
        return found
    found = {who: task for who, task in named.items() if worker and task.id.startswith(worker)}
    if len(found) == 1:
        return found
    if found:
        raise UnknownNameError(
            f"the ids of {len(found)} tasks begin with {worker!r}; give more of one, or an address "
            f"({', '.join(found)})"
        )
    raise UnknownNameError(f"no worker is {worker!r}; {did_you_mean(worker, [*named, *names])}")


def place_of(aws: Aws, task: Task, group: str) -> Place:
    """Read in a task's definition where it writes; `group` is for one whose definition is gone."""
    try:
        told = aws.call("ecs", "describe_task_definition", taskDefinition=task.definition)
    except AwsRefused:
        # Deleted, or not to be seen: ours write to our group.
        return Place(group=group)
    containers = {c["name"]: c for c in told["taskDefinition"].get("containerDefinitions", ())}
    settings = containers.get(task.container, {}).get("logConfiguration") or {}
    driver, options = settings.get("logDriver"), settings.get("options") or {}
    which = f"the task definition {task.definition.rsplit('/', 1)[-1]}"
    if driver != "awslogs":
        how = f"with {driver}, which is not CloudWatch Logs" if driver else "nowhere"
        return Place(unreadable=f"{which} has its containers write {how}")
    if not options.get("awslogs-stream-prefix"):
        return Place(unreadable=f"{which} has no awslogs-stream-prefix to find its logs by")
    if (region := options.get("awslogs-region", aws.region)) != aws.region:
        return Place(unreadable=f"{which} has its containers write in {region}; look there")
    return Place(group=str(options["awslogs-group"]), prefix=str(options["awslogs-stream-prefix"]))


class _Places:
    """Where tasks write; each definition is read once."""

    def __init__(self, aws: Aws, group: str) -> None:
        self._aws = aws
        self._group = group
        self._known: dict[tuple[str, str], Place] = {}

    def of(self, task: Task) -> Place:
        key = (task.definition, task.container)
        if key not in self._known:
            self._known[key] = place_of(self._aws, task, self._group)
        return self._known[key]


@dataclass(slots=True, kw_only=True)
class _Reader:
    """One stream, read as far as it is written."""

    who: str
    task: Task
    place: Place
    token: str | None = None
    """Where to go on; None before the first line."""
    last_words: Deadline | None = None
    """Runs from when the task was seen to have ended."""
    fresh: list[Event] = field(default_factory=list)
    """What was read and not yet given; it stays here if a later page cannot be read."""
    done: bool = False
    """Whether nothing more can come."""

    def seen(self, task: Task | None) -> None:
        """Take the task as it is now; None when ECS has forgotten it."""
        self.task = task or self.task
        if (task is None or task.status == "STOPPED") and self.last_words is None:
            self.last_words = Deadline(_LAST_WORDS)

    def read(self, aws: Aws) -> None:
        """Read on, to the end or for many pages."""
        if self.place.unreadable:
            self.fresh.append((0, self.place.unreadable))
            self.done = True
            return
        ended = self.last_words is not None and self.last_words.passed
        for _ in range(_MOST_PAGES):
            events, token = _next(aws, self.place.group, self.place.stream(self.task), self.token)
            self.fresh += events
            # The same token again is CloudWatch's word for the end.
            at_the_end, self.token = token == self.token, token
            if at_the_end:
                self.done = ended
                return


@dataclass(slots=True)
class _Following:
    """The streams of one cluster."""

    aws: Aws
    ecs_cluster: str
    cluster: str
    places: _Places
    lines: int
    readers: dict[str, _Reader] = field(default_factory=dict)

    @property
    def waits_for_last_words(self) -> bool:
        """Whether a task ends at this moment, and perhaps the whole cluster."""
        return any(not r.task.wanted and not r.done for r in self.readers.values())

    @property
    def over(self) -> bool:
        """Whether nothing more can come."""
        return all(r.done for r in self.readers.values())

    def find(self, worker: str | None, names: Mapping[str, str]) -> None:
        """Look for tasks; those that are new are read from their first line."""
        first = not self.readers
        tasks = _tasks(self.aws, self.ecs_cluster, self.cluster)
        for reader in self.readers.values():
            reader.seen(next((t for t in tasks if t.arn == reader.task.arn), None))
        named = called(tasks)
        for who, task in (chosen(named, worker, names) if first else named).items():
            # Of one worker there is one task, whatever starts later.
            if task.arn in self.readers or (worker is not None and not first):
                continue
            reader = _Reader(who=who, task=task, place=self.places.of(task))
            reader.seen(task)
            self.readers[task.arn] = reader
            if first and not reader.place.unreadable:
                name = reader.place.stream(task)
                reader.fresh, reader.token = _last(self.aws, reader.place.group, name, self.lines)

    def read(self) -> list[tuple[str, str]]:
        """Give the lines that came since the last time, in the order of time."""
        unfinished = [r for r in self.readers.values() if not r.done]
        with ThreadPoolExecutor(_READERS, thread_name_prefix="daskenv-logs") as pool:
            list(pool.map(lambda r: r.read(self.aws), unfinished))
        lines = [(when, r.who, line) for r in unfinished for when, line in r.fresh]
        for reader in unfinished:
            reader.fresh = []
        return [(who, line) for _, who, line in sorted(lines, key=lambda entry: entry[0])]


def _tasks(aws: Aws, ecs_cluster: str, cluster: str) -> list[Task]:
    """Look at all tasks of a cluster: those that run, and those that ECS remembers."""
    running = fleet.of_cluster(aws, ecs_cluster, f"daskenv/{cluster}")
    stopped = fleet.of_everybody(aws, ecs_cluster, stopped=True)
    both = {t.arn: t for t in [*running, *stopped]}
    return [t for t in both.values() if t.identity and t.identity.cluster == cluster]


def _last(aws: Aws, group: str, name: str, lines: int) -> tuple[list[Event], str | None]:
    """Give the last lines of a stream, and from where to go on."""
    wanted = min(max(lines, 1), _MOST_LINES)
    events, token = _get(aws, group, name, limit=wanted, startFromHead=False)
    return events[-lines:] if lines > 0 else [], token


def _next(aws: Aws, group: str, name: str, token: str | None) -> tuple[list[Event], str | None]:
    """Give the next page of a stream, and from where to go on."""
    if token is None:
        return _get(aws, group, name, startFromHead=True)
    return _get(aws, group, name, nextToken=token, startFromHead=True)


def _get(aws: Aws, group: str, name: str, **how: object) -> tuple[list[Event], str | None]:
    try:
        told = aws.call("logs", "get_log_events", logGroupName=group, logStreamName=name, **how)
    except AwsRefused as refused:
        if refused.code != "ResourceNotFoundException":
            raise
        # The stream comes with the container's start.
        return [], None
    events = [(int(e["timestamp"]), str(e["message"]).rstrip("\n")) for e in told["events"]]
    return events, told.get("nextForwardToken")


def _age(task: Task) -> float:
    return task.created_at.timestamp() if task.created_at else 0.0
