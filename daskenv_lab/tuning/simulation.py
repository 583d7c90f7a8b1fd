"""Run a flow's work on a cluster that is not there: a simulation of what Dask would do.

The rules are those of `distributed.scheduler`: calls that need nothing wait in one queue, and go
to a worker whose thread is free, the first sent first; a call that needs results goes to the
worker on which it is expected to start soonest (``worker_objective``); a worker without work takes
some from the one with the most (`distributed.stealing`).
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TYPE_CHECKING

from daskenv_lab.tuning.adaptive import PATIENCE, Adaptive
from daskenv_lab.tuning.durations import Durations
from daskenv_lab.tuning.fleet import Fleet
from daskenv_lab.tuning.flowcode import FlowCode
from daskenv_lab.tuning.groups import BALANCE, Groups, slots
from daskenv_lab.tuning.machine import Machine
from daskenv_lab.tuning.memory import Memory
from daskenv_lab.tuning.prepared import Prepared
from daskenv_lab.tuning.simulated import Placed, Simulated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from daskenv_lab.tuning.size import Size
    from daskenv_lab.tuning.work import Work

_FINISH, _CLIENT, _ARRIVE, _TICK, _BALANCE = range(5)

MANY = 16
"""Holders of an input that are looked at; Dask looks at all, which takes long."""


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
        self.rank = [0] * n
        self.where: list[set[int]] = [set() for _ in range(n)]
        self.durations = Durations(prepared.names, prepared.n_names)
        # Of the cluster.
        self.memory = Memory(size.memory, prepared.work.worker_memory)
        self.fleet = Fleet(size.nthreads, self.memory)
        self.machine = Machine(size.cores)
        self.adaptive = None if size.maximum is None else Adaptive(size)
        self.slots = slots(size.nthreads)
        self.groups = Groups(prepared.n_names)
        self.queue: list[tuple[int, int, int]] = []
        self.balancing = False
        self.quiet = self.ticked = 0
        self.left = n
        self.busy = self.delayed = 0.0
        self.placed: list[Placed] | None = [] if timeline else None
        self.code = FlowCode(self.work.steps, n)

    def run(self) -> Simulated:
        """Go from event to event until all is done."""
        for _ in range(self.size.n_workers):
            self._ask(fresh=self.size.fresh)
        self._send(self.p.inner)
        self._begin_step()
        if self.adaptive is not None:
            self._later(self.size.interval / 2, _TICK)
        while self.events and self._goes_on() and self.fault is None:
            self.now, _, kind, one, other = heapq.heappop(self.events)
            if kind == _FINISH:
                self._finish(one, other)
            elif kind == _CLIENT:
                if not self.code.waits(self.now, self.ended, tasks_run=self._tasks_run()):
                    self._end_step()
            elif kind == _ARRIVE:
                self._arrive(one)
            elif kind == _BALANCE:
                self._balance()
            else:
                self._look_at_load()
        if self.left and self.fault is None:
            self.fault = f"{self.left} tasks would never run, as no worker is there for them"
        self.now = self.work.end(self.now)
        return self._told()

    def _goes_on(self) -> bool:
        return self.left > 0 or not self.code.done

    def _tasks_run(self) -> bool:
        return bool(self.durations.running or self.queue)

    def _later(self, delay: float, kind: int, one: int = 0, other: int = 0) -> None:
        self.number += 1
        heapq.heappush(self.events, (self.now + delay, self.number, kind, one, other))

    # The flow's own code.

    def _begin_step(self) -> None:
        seconds = self.code.begin(self.now, tasks_run=self._tasks_run())
        if seconds is not None:
            self._later(seconds, _CLIENT)

    def _end_step(self) -> None:
        self._send(self.code.sends())
        self._begin_step()

    def _send(self, nodes: Iterable[int]) -> None:
        """Send calls in one message: Dask knows them all before it assigns the first."""
        fresh = [node for node in nodes if not self.sent[node]]
        for node in fresh:
            self.sent[node] = 1
            needs = self.p.needed_names[node]
            self.rank[node] = self.groups.send(self.p.names[node], needs, self.now)
        for node in fresh:
            if not self.missing[node]:
                self._assign(node)

    # The number of workers.

    def _ask(self, *, fresh: bool) -> None:
        worker = self.fleet.ask(self.now, self.work.before_first(fresh=fresh))
        if fresh and self.size.startup:
            self._later(self.size.startup, _ARRIVE, worker)
        else:
            self._arrive(worker)

    def _arrive(self, worker: int) -> None:
        if self.fleet.arrive(worker, self.now):
            self._refill(worker)
            self._balance_later()

    def _look_at_load(self) -> None:
        longer = self.durations.watch(self.now)
        load = self.fleet.load(len(self.queue), self.durations.occupancy, limit=self.size.memory)
        change = self.adaptive.change(load) if self.adaptive else 0
        for _ in range(change):
            self._ask(fresh=True)
        if change < 0:
            self._dismiss(self.fleet.leaving(-change))
        # What takes longer than expected asks for more workers, up to one for each call.
        grows = longer and load.workers + load.coming < min(load.ready, self.size.maximum or 0)
        same = self.number == self.ticked and not grows
        self.quiet = self.quiet + 1 if same else 0
        if self._goes_on() and (self.durations.running or self.events or change):
            # When nothing has changed for a while, nothing does until the next event.
            ahead = self.events[0][0] - self.now if self.quiet >= PATIENCE and self.events else 0
            self._later(self.size.interval * max(math.ceil(ahead / self.size.interval), 1), _TICK)
        self.ticked = self.number

    def _dismiss(self, workers: set[int]) -> None:
        for worker in workers:
            self.fleet.leave(worker, self.now)
            self.memory.forget(worker)
        # What only they hold is moved; the time for that is not counted.
        heir = next(iter(self.fleet.present()), None)
        for node, where in enumerate(self.where):
            if where and not where.isdisjoint(workers):
                where -= workers
                if not where and heir is not None:
                    where.add(heir)
                    self.memory.store(heir, self.p.output[node])

    # Which call goes to which worker.

    def _assign(self, node: int) -> None:
        """Give a call that is ready to a worker, or put it into the queue."""
        fleet = self.fleet
        needs, name = self.p.needs[node], self.p.names[node]
        self.durations.ready(node)
        if not fleet.n_alive or self.groups.rootlike(name, fleet.n_alive * fleet.nthreads):
            worker = None if self.queue else fleet.least_busy(self.slots)
            if worker is None:
                self.number += 1
                heapq.heappush(self.queue, (self.rank[node], self.number, node))
                return
        elif needs:
            worker = self._soonest(needs)
        else:
            worker = fleet.next_one()
        self._give(node, worker)

    def _soonest(self, needs: Sequence[int]) -> int:
        """Give the holder of an input on which a call is expected to start soonest."""
        fleet = self.fleet
        # What many workers have says little about where to go.
        spread = [self.where[need] for need in needs]
        few = [where for where in spread if len(where) <= MANY] or spread[:1]
        holders = itertools.islice(dict.fromkeys(itertools.chain(*few)), MANY)
        best, least = -1, (math.inf, 0)
        for worker in holders:
            cost = fleet.backlog[worker] / fleet.nthreads + self._moving(needs, worker)
            if (cost, self.memory.stored[worker]) < least:
                best, least = worker, (cost, self.memory.stored[worker])
        return best

    def _moving(self, needs: Sequence[int], worker: int) -> float:
        """Give the seconds that it takes to move to a worker what it does not have."""
        where, output = self.where, self.p.output
        return (
            sum(output[need] for need in needs if worker not in where[need]) / self.work.bandwidth
        )

    def _give(self, node: int, worker: int) -> None:
        """Let a call wait for a thread of a worker, which fetches its inputs meanwhile."""
        fetched = self.now
        if needs := self.p.needs[node]:
            if not all(worker in self.where[need] for need in needs):
                fetched += self.work.latency + self._moving(needs, worker)
            for need in needs:
                if worker not in self.where[need]:
                    self.where[need].add(worker)
                    self.memory.store(worker, self.p.output[need])
        fleet = self.fleet
        self.number += 1
        self.expected[node] = self.durations.usual(node)
        if fleet.free[worker] and not fleet.given[worker] and self._fits(node, worker):
            self._start(node, worker, fetched)
        else:
            call = (self.rank[node], self.number, node, fetched)
            fleet.give(worker, call, self.expected[node])
            self._run_next(worker)
        if fleet.calls[worker] < self.slots:
            fleet.has_room(worker)
        elif fleet.given[worker] and not self.balancing:
            self._balance_later()

    def _refill(self, worker: int) -> None:
        """Give a worker that has room what is queued, and its threads what it has."""
        fleet = self.fleet
        while self.queue and fleet.calls[worker] < self.slots:
            node = heapq.heappop(self.queue)[2]
            self._give(node, worker)
        self._run_next(worker)
        if fleet.calls[worker] < self.slots:
            fleet.has_room(worker)
        if fleet.loaded and not self.balancing:
            self._balance_later()

    def _balance_later(self) -> None:
        if not self.balancing:
            self.balancing = True
            # Dask looks at times of its own: half an interval later, on average.
            self._later(BALANCE / 2, _BALANCE)

    def _balance(self) -> None:
        """Let workers without enough to do take calls from those with the longest backlogs."""
        fleet = self.fleet
        self.balancing = False
        thieves = [w for w in fleet.present() if fleet.free[w] and not fleet.given[w]]
        if not thieves:
            return
        for victim in sorted(fleet.loaded, key=lambda w: (-fleet.backlog[w], w)):
            while thieves and fleet.given[victim]:
                node = fleet.given[victim][0][2]
                if not self._moves(node, victim, thieves[0]):
                    break
                fleet.take(victim)
                self._give(node, thieves[0])
                if not fleet.free[thieves[0]] or fleet.given[thieves[0]]:
                    del thieves[0]
            if not thieves:
                return

    def _moves(self, node: int, victim: int, thief: int) -> bool:
        """Tell whether a call moves, as ``WorkStealing.balance`` weighs it."""
        fleet, needs = self.fleet, self.p.needs[node]
        usual = self.durations.usual(node)
        there = fleet.backlog[thief] + self._moving(needs, thief) + usual
        return there <= fleet.backlog[victim] - (self._moving(needs, victim) + usual) / 2

    def _run_next(self, worker: int) -> None:
        """Start what waits for a worker's free threads."""
        fleet = self.fleet
        while fleet.free[worker] and fleet.given[worker]:
            if not self._fits(fleet.given[worker][0][2], worker):
                return
            call = fleet.take(worker)
            self._start(call[2], worker, call[3])

    def _fits(self, node: int, worker: int) -> bool:
        """Tell whether a worker starts a call beside what it runs, or waits for memory."""
        if not self.size.memory or not self.fleet.running[worker]:
            return True
        return self.memory.allows(worker, self.p.grows[node])

    def _start(self, node: int, worker: int, fetched: float) -> None:
        if self.code.works:
            self.code.count(self.now, tasks_run=self._tasks_run())
        fleet, memory = self.fleet, self.memory
        start = max(self.now, fleet.freed_at[worker] + self.work.overhead)
        if fetched > start:
            self.delayed += fetched - start
            start = fetched
        inputs = sum(self.p.output[need] for need in self.p.needs[node]) if memory.spilled else 0
        delay = memory.start(worker, self.p.grows[node], inputs)
        if memory.fault is not None:
            self.fault = f"a {self.work.nodes[node].task!r} {memory.fault}"
        delay += fleet.first(worker, self.size.cores)
        delay += self.machine.start(self.p.cpu[node], self.takes[node])
        end = start + delay + self.takes[node]
        fleet.start(worker, self.expected[node])
        self.durations.begin(node, start)
        self.busy += end - start
        if self.placed is not None:
            self.placed.append(Placed(node=node, worker=worker, start=start, end=end))
        self._later(end - self.now, _FINISH, node, worker)

    def _finish(self, node: int, worker: int) -> None:
        if self.code.works:
            self.code.count(self.now, tasks_run=self._tasks_run())
        p = self.p
        self.durations.end(node, self.now)
        self.fleet.finish(worker, self.expected[node], self.now)
        self.machine.finish(p.cpu[node])
        self.left -= 1
        self.ended[node] = 1
        self.where[node].add(worker)
        self.memory.finish(worker, p.grows[node], p.output[node])
        self._release(node)
        for need in p.needs[node]:
            self.users[need] -= 1
            self._release(need)
        for other in p.dependants[node]:
            self.missing[other] -= 1
            if not self.missing[other] and self.sent[other]:
                self._assign(other)
        self._refill(worker)
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
            crowded_seconds=self.machine.waited,
            client_seconds=self.code.alone,
            peak_memory=self.memory.peak,
            spilled=self.memory.spilled,
            workers=spans,
            placed=tuple(self.placed or ()),
        )
