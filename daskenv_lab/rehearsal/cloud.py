"""The account: moto's state, the tasks, and the lock that both are kept under."""

from __future__ import annotations

import collections
import contextlib
import fnmatch
import threading
import time
from typing import TYPE_CHECKING, Any

from moto.ec2.models import ec2_backends
from moto.ecs.models import ecs_backends
from moto.iam.models import iam_backends
from moto.logs.models import logs_backends
from moto.secretsmanager.models import secretsmanager_backends

from daskenv_lab.rehearsal.orders import Orders
from daskenv_lab.rehearsal.place import ACCOUNT, Latency, Reach
from daskenv_lab.rehearsal.rules import admits

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from daskenv_lab.rehearsal.task import Task

REMEMBERED = 3600.0
"""Seconds for which a task that stopped can still be described, as on AWS."""


class Cloud:
    """One account in one region, with its tasks.

    Parameters
    ----------
    region : str
        Its one region.
    folder : Path
        Where its tasks have their folders.
    latency : Latency
        How slow it is.
    images : mapping of str to str or bool
        What images hold; see ``daskenv.rehearsal.images``.
    loop : asyncio.AbstractEventLoop
        Where the tasks' lives run.
    """

    def __init__(
        self,
        *,
        region: str,
        folder: Path,
        latency: Latency,
        images: Mapping[str, str | bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.region = region
        self.folder = folder
        self.latency = latency
        self.images = images
        self.loop = loop
        self.orders = Orders()
        self.calls: collections.Counter[str] = collections.Counter()
        self.held: list[str] = []
        self.used = time.monotonic()
        # moto was not made for threads: its state is read and changed under this lock only.
        self.lock = threading.RLock()
        self.tasks: dict[str, Task] = {}
        self.lives: set[asyncio.Task[None]] = set()
        self.start_life: Callable[[Task], None] = lambda _: None

    @property
    def ec2(self) -> Any:
        """Moto's EC2."""
        return ec2_backends[ACCOUNT][self.region]

    @property
    def ecs(self) -> Any:
        """Moto's ECS."""
        return ecs_backends[ACCOUNT][self.region]

    @property
    def iam(self) -> Any:
        """Moto's IAM."""
        return iam_backends[ACCOUNT]["aws"]

    @property
    def logs(self) -> Any:
        """Moto's CloudWatch Logs."""
        return logs_backends[ACCOUNT][self.region]

    @property
    def secrets(self) -> Any:
        """Moto's Secrets Manager."""
        return secretsmanager_backends[ACCOUNT][self.region]

    @property
    def busy(self) -> bool:
        """Whether a task has not ended yet."""
        return any(not task.ended for task in list(self.tasks.values()))

    @contextlib.contextmanager
    def holding(self, call: str) -> Iterator[None]:
        """Tell of a call that is held, as long as it is."""
        with self.lock:
            self.held.append(call)
        try:
            yield
        finally:
            with self.lock:
                self.held.remove(call)

    def add(self, task: Task) -> None:
        """Take a task in, and begin its life; call it under the lock."""
        self.tasks[task.task_arn] = task
        # Where moto's tagging of resources looks.
        self.ecs.tasks.setdefault(task.cluster_name, {})[task.task_arn] = task
        self._count(task, pending=1)
        self.loop.call_soon_threadsafe(self.start_life, task)

    def move(self, task: Task, status: str, *stamps: str) -> None:
        """Take a task to another status, and keep the cluster's counts."""
        with self.lock:
            before = task.status
            task.move(status, *stamps)
            if status == "RUNNING":
                self._count(task, pending=-1, running=1)
            elif status in {"DEACTIVATING", "STOPPING", "DEPROVISIONING"}:
                if before == "RUNNING":
                    self._count(task, running=-1)
                elif before in {"PROVISIONING", "PENDING"}:
                    self._count(task, pending=-1)

    def halt(self, task: Task, code: str, reason: str) -> None:
        """Have a task end; call it under the lock."""
        task.end(code, reason)
        self.loop.call_soon_threadsafe(task.halt.set)

    def forget_old(self) -> None:
        """Forget tasks that stopped long ago."""
        old = time.time() - REMEMBERED
        with self.lock:
            for arn, task in list(self.tasks.items()):
                if task.ended and task.times["stoppedAt"] < old:
                    del self.tasks[arn]
                    self.ecs.tasks.get(task.cluster_name, {}).pop(arn, None)

    def matching(self, pattern: str) -> list[Task]:
        """Give the tasks that run and whose ARN or family fits."""
        return [
            task
            for task in list(self.tasks.values())
            if task.desired == "RUNNING"
            and (
                fnmatch.fnmatchcase(task.task_arn, pattern)
                or fnmatch.fnmatchcase(task.family, pattern)
            )
        ]

    def at(self, address: str) -> Task | None:
        """Find the task that has an address."""
        for task in list(self.tasks.values()):
            if not task.ended and address in (task.private, task.public_address):
                return task
        return None

    def groups_of(self, task: Task) -> list[Any]:
        """Give the security groups of a task's network interface, as they are now."""
        with self.lock:
            found = [self.ec2.get_security_group_from_id(name) for name in task.groups]
            return [group for group in found if group is not None]

    def reach(self, source: str | Task, task: Task, port: int, *, public: bool = False) -> Reach:
        """Tell whether a connection to a task would be let in.

        Parameters
        ----------
        source : str or Task
            An address or CIDR, or the task that connects.
        task : Task
            Which is connected to.
        port : int
            The port there.
        public : bool
            Whether it is called by its public address, where the groups of `source` do not count.
        """
        with self.lock:
            groups = self.groups_of(task)
            if isinstance(source, str):
                return admits(groups, port, source)
            address = source.public_address if public else source.private
            if address is None:
                return Reach(
                    allowed=False,
                    rule="",
                    reason=f"the task {source.id} has no {'public' if public else 'own'} address",
                )
            together = () if public or not self._one_vpc(source, task) else source.groups
            return admits(groups, port, address, together)

    def _one_vpc(self, one: Task, other: Task) -> bool:
        both = [t.interface.vpc_id for t in (one, other) if t.interface is not None]
        return len(both) == 2 and both[0] == both[1]

    def _count(self, task: Task, *, pending: int = 0, running: int = 0) -> None:
        cluster = self.ecs.clusters.get(task.cluster_name)
        for counted in (cluster, task.instance):
            if counted is not None:
                counted.pending_tasks_count += pending
                counted.running_tasks_count += running
