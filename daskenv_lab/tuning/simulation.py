"""Run a flow's work on a cluster that is not there: a simulation of what Dask would do.

The rules are those of `distributed.scheduler`: calls that need nothing wait in one queue, and go
to a worker whose thread is free, the first sent first; a call that needs results goes to the
worker on which it is expected to start soonest (``worker_objective``); a worker without work takes
some from the one with the most (`distributed.stealing`).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import TYPE_CHECKING

from daskenv_lab.tuning.adaptive import INTERVAL, Adaptive, Load
from daskenv_lab.tuning.fleet import Fleet
from daskenv_lab.tuning.flowcode import FlowCode
from daskenv_lab.tuning.memory import Memory
from daskenv_lab.tuning.prepared import Prepared
from daskenv_lab.tuning.simulated import Placed, Simulated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskenv_lab.tuning.size import Size
    from daskenv_lab.tuning.work import Work

_FINISH, _CLIENT, _ARRIVE, _TICK, _BALANCE = range(5)
BALANCE = 0.1
"""Seconds after which idle workers look again; ``distributed.scheduler.work-stealing-interval``."""

UNKNOWN = 0.5
"""Seconds that a task is expected to take before one has ended, as Dask's configuration
``distributed.scheduler.unknown-task-duration`` has it."""

LOOKED_AT = 8
"""Holders of inputs that are considered for a call; Dask looks at all."""


def simulate(
    work: Work | Prepared,
    size: Size,
    *,
    seconds: Sequence[float] | None = None,
    timeline: bool = False,
) -> Simulated:
    """Say how a flow run would go on a cluster of a size.

    Parameters
    ----------
    work : Work or Prepared
        What is to be done; prepared where it is simulated many times.
    size : Size
        The cluster.
    seconds : sequence of float, optional
        Durations of the nodes in the place of those observed.
    timeline : bool
        Whether to tell where each node ran.

    Examples
    --------
    >>> from daskenv_lab.tuning.size import Size
    >>> from daskenv_lab.tuning.work import Node, Step, Work
    >>> tasks = tuple(Node(task="sleep", seconds=1.0) for _ in range(4))
    >>> simulate(Work(nodes=tasks, steps=(Step(sends=(0, 1, 2, 3)),)), Size(n_workers=2)).seconds
    2.0
    """
    prepared = work if isinstance(work, Prepared) else Prepared(work)
    return _Simulation(prepared, size, seconds, timeline).run()


class _Simulation:
    """The state of one simulation, and the events to come."""

    def __init__(
        self, prepared: Prepared, size: Size, seconds: Sequence[float] | None, timeline: bool
    ) -> None:
        self.p = prepared
        self.work, self.size = prepared.work, size
        self.takes = prepared.on(size, seconds)
        n = len(self.takes)
        self.now = 0.0
        self.events: list[tuple[float, int, int, int, int]] = []
        self.number = 0
        self.fault: str | None = None
        # Of each node.
        self.missing = [len(needs) for needs in prepared.needs]
        self.users = [len(dependants) for dependants in prepared.dependants]
        self.sent = bytearray(n)
        self.ended = bytearray(n)
        self.expected = [0.0] * n
        self.where: list[list[int]] = [[] for _ in range(n)]
        # Of each task's name.
        self.done = [0] * prepared.n_names
        self.spent = [0.0] * prepared.n_names
        # Of the cluster.
        self.memory = Memory(size.memory, prepared.work.worker_memory)
        self.fleet = Fleet(size.nthreads, self.memory)
        self.adaptive = None if size.maximum is None else Adaptive(size)
        self.queue: list[int] = []
        self.balancing = False
        self.began: dict[int, float] = {}
        self.left = n
        self.active = 0
        self.busy = self.delayed = 0.0
        self.placed: list[Placed] | None = [] if timeline else None
        self.code = FlowCode(self.work.steps, n)

    def run(self) -> Simulated:
        """Go from event to event until all is done."""
        for _ in range(self.size.n_workers):
            self._ask(self.size.startup if self.size.fresh else 0.0)
        for node in self.p.inner:
            self._send(node)
        self._begin_step()
        if self.adaptive is not None:
            self._later(INTERVAL, _TICK)
        while self.events and self._goes_on() and self.fault is None:
            self.now, _, kind, one, other = heapq.heappop(self.events)
            if kind == _FINISH:
                self._finish(one, other)
            elif kind == _CLIENT:
                if not self.code.waits(self.now, self.ended, tasks_run=self.active > 0):
                    self._end_step()
            elif kind == _ARRIVE:
                self.fleet.arrive(one, self.now)
                self._feed(one)
            elif kind == _BALANCE:
                self._balance()
            else:
                self._look_at_load()
        if self.left and self.fault is None:
            self.fault = f"{self.left} tasks would never run, as no worker is there for them"
        return self._told()

    def _goes_on(self) -> bool:
        return self.left > 0 or not self.code.done

    def _later(self, delay: float, kind: int, one: int = 0, other: int = 0) -> None:
        self.number += 1
        heapq.heappush(self.events, (self.now + delay, self.number, kind, one, other))

    # The flow's own code.

    def _begin_step(self) -> None:
        seconds = self.code.begin(self.now, tasks_run=self.active > 0)
        if seconds is not None:
            self._later(seconds, _CLIENT)

    def _end_step(self) -> None:
        for node in self.code.sends():
            self._send(node)
        self._begin_step()

    def _send(self, node: int) -> None:
        self.sent[node] = 1
        if not self.missing[node]:
            self._assign(node)

    # The number of workers.

    def _ask(self, delay: float) -> None:
        worker = self.fleet.ask(self.now)
        if delay:
            self._later(delay, _ARRIVE, worker)
        else:
            self.fleet.arrive(worker, self.now)
            self._feed(worker)

    def _look_at_load(self) -> None:
        fleet = self.fleet
        present, needless = fleet.present(), fleet.needless()
        waiting = Counter(self.p.names[node] for node in self.queue)
        load = Load(
            workers=len(present),
            coming=fleet.coming,
            queued=len(self.queue),
            processing=sum(fleet.running[w] + len(fleet.given[w]) for w in present),
            occupancy=sum(fleet.backlog[w] for w in present)
            + sum(n * self._usual(name) for name, n in waiting.items()),
            idle=len(needless),
            memory_used=sum(self.memory.stored[w] for w in present),
            memory=self.size.memory * len(present),
        )
        change = self.adaptive.change(load) if self.adaptive else 0
        for _ in range(change):
            self._ask(self.size.startup)
        for worker in needless[: max(-change, 0)]:
            self._dismiss(worker)
        if self._goes_on():
            self._later(INTERVAL, _TICK)

    def _dismiss(self, worker: int) -> None:
        heir = self.fleet.leave(worker, self.now)
        # What only it holds is moved; the time for that is not counted.
        for where in self.where:
            if worker in where:
                where.remove(worker)
                if heir is not None and not where:
                    where.append(heir)

    # Which call runs where.

    def _usual(self, name: int) -> float:
        """Give the seconds that a task is expected to take: the mean so far."""
        return self.spent[name] / self.done[name] if self.done[name] else UNKNOWN

    def _count(self, node: int, worker: int) -> None:
        self.expected[node] = self._usual(self.p.names[node])
        self.fleet.backlog[worker] += self.expected[node]

    def _assign(self, node: int) -> None:
        """Give a call that is ready to a worker, or put it into the queue."""
        fleet = self.fleet
        needs = self.p.needs[node]
        best, soonest, fetch = self._best_holder(needs) if needs else (-1, math.inf, 0.0)
        idle = fleet.an_idle_one()
        if best >= 0 and idle is not None and soonest > 0.0:
            elsewhere = self._fetch(needs, idle)
            if elsewhere < soonest:
                best, fetch = idle, elsewhere
        if best < 0:
            heapq.heappush(self.queue, node)
            if idle is not None:
                self._feed(idle)
            return
        self._count(node, best)
        fleet.give(best, (node, self.now, fetch))
        if fleet.free[best]:
            self._feed(best)
        elif idle is not None:
            self._balance_later()

    def _best_holder(self, needs: Sequence[int]) -> tuple[int, float, float]:
        """Give the holder of an input that would start soonest, when, and its time to fetch."""
        fleet = self.fleet
        best, soonest, fetching = -1, math.inf, 0.0
        holders = dict.fromkeys(worker for need in needs for worker in self.where[need])
        for worker in list(holders)[:LOOKED_AT]:
            fetch = self._fetch(needs, worker)
            stack = 0.0 if fleet.free[worker] else fleet.backlog[worker] / fleet.nthreads
            if max(stack, fetch) < soonest:
                best, soonest, fetching = worker, max(stack, fetch), fetch
        return best, soonest, fetching

    def _fetch(self, needs: Sequence[int], worker: int) -> float:
        """Give the seconds for which a worker fetches what it does not have."""
        where = self.where
        missing = [need for need in needs if worker not in where[need]]
        if not missing:
            return 0.0
        output = self.p.output
        return self.work.latency + sum(output[need] for need in missing) / self.work.bandwidth

    def _feed(self, worker: int) -> None:
        """Give a worker's free threads what it was given, what is queued, or another's."""
        fleet, queue = self.fleet, self.queue
        given = fleet.given[worker]
        while fleet.free[worker]:
            if given and (not queue or given[0][0] < queue[0]):
                if not self._fits(given[0][0], worker):
                    break
                node, since, fetch = fleet.take(worker)
                fleet.backlog[worker] -= self.expected[node]
            elif queue:
                if not self._fits(queue[0], worker):
                    break
                node, since = heapq.heappop(queue), self.now
                fetch = self._fetch(self.p.needs[node], worker)
            elif (stolen := self._steal(worker)) is not None:
                node, since, fetch = stolen
            else:
                fleet.set_idle(worker, idle=True)
                return
            self._start(node, worker, since + fetch)
        fleet.set_idle(worker, idle=False)

    def _fits(self, node: int, worker: int) -> bool:
        return not self.fleet.running[worker] or self.memory.allows(worker, self.p.grows[node])

    def _steal(self, thief: int) -> tuple[int, float, float] | None:
        """Take a call from the worker with the longest backlog, if it starts sooner here."""
        fleet = self.fleet
        if not fleet.loaded:
            return None
        victim = max(fleet.loaded, key=lambda worker: (fleet.backlog[worker], -worker))
        node = fleet.given[victim][0][0]
        fetch = self._fetch(self.p.needs[node], thief)
        # A task that takes longer than usual is expected to take as long again.
        longer = self.now - self.began[victim]
        if fetch >= max(fleet.backlog[victim] / fleet.nthreads, longer):
            self._balance_later()
            return None
        fleet.take(victim)
        fleet.backlog[victim] -= self.expected[node]
        return node, self.now, fetch

    def _balance_later(self) -> None:
        if not self.balancing:
            self.balancing = True
            self._later(BALANCE, _BALANCE)

    def _balance(self) -> None:
        """Let idle workers look again for calls that wait elsewhere."""
        self.balancing = False
        while self.fleet.loaded and (idle := self.fleet.an_idle_one()) is not None:
            self._feed(idle)
            if self.balancing:
                return

    def _start(self, node: int, worker: int, fetched: float) -> None:
        self.code.count(self.now, tasks_run=self.active > 0)
        fleet, memory = self.fleet, self.memory
        start = max(self.now, fleet.freed_at[worker] + self.work.overhead)
        if fetched > start:
            self.delayed += fetched - start
            start = fetched
        inputs = 0
        for need in self.p.needs[node]:
            inputs += self.p.output[need]
            if worker not in self.where[need]:
                self.where[need].append(worker)
                memory.store(worker, self.p.output[need])
        delay = memory.start(worker, self.p.grows[node], inputs)
        if memory.fault is not None:
            self.fault = f"a {self.work.nodes[node].task!r} {memory.fault}"
        if fleet.cold[worker]:
            fleet.cold[worker] = False
            delay += self.work.warmup
        end = start + delay + self.takes[node]
        self.began[worker] = start
        fleet.free[worker] -= 1
        fleet.running[worker] += 1
        self.active += 1
        self._count(node, worker)
        self.busy += end - start
        if self.placed is not None:
            self.placed.append(Placed(node=node, worker=worker, start=start, end=end))
        self._later(end - self.now, _FINISH, node, worker)

    def _finish(self, node: int, worker: int) -> None:
        self.code.count(self.now, tasks_run=self.active > 0)
        fleet, p = self.fleet, self.p
        name = p.names[node]
        self.done[name] += 1
        self.spent[name] += self.takes[node]
        fleet.backlog[worker] -= self.expected[node]
        fleet.free[worker] += 1
        fleet.running[worker] -= 1
        fleet.freed_at[worker] = self.now
        self.active -= 1
        self.left -= 1
        self.ended[node] = 1
        self.where[node].append(worker)
        self.memory.finish(worker, p.grows[node], p.output[node])
        self._release(node)
        for need in p.needs[node]:
            self.users[need] -= 1
            self._release(need)
        for other in p.dependants[node]:
            self.missing[other] -= 1
            if not self.missing[other] and self.sent[other]:
                self._assign(other)
        self._feed(worker)
        if self.code.goes_on(node):
            self._end_step()

    def _release(self, node: int) -> None:
        """Let go of a result once nobody needs it."""
        if not self.users[node] and not self.p.held[node]:
            for worker in self.where[node]:
                self.memory.release(worker, self.p.output[node])

    def _told(self) -> Simulated:
        spans = self.fleet.spans(self.now)
        return Simulated(
            seconds=math.inf if self.fault else self.now,
            fault=self.fault,
            worker_seconds=sum(until - since for since, until in spans),
            busy_seconds=self.busy,
            thread_seconds=self.fleet.thread_seconds(self.now),
            transfer_seconds=self.delayed,
            client_seconds=self.code.alone,
            peak_memory=self.memory.peak,
            spilled=self.memory.spilled,
            workers=spans,
            placed=tuple(self.placed or ()),
        )
