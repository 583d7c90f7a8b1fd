"""A work as simulations of it use it: columns, made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskenv_lab.tuning.size import Size
    from daskenv_lab.tuning.work import Work


class Prepared:
    """What all simulations of one work have in common."""

    def __init__(self, work: Work) -> None:
        nodes = work.nodes
        self.work = work
        self.needs = [node.needs for node in nodes]
        self.dependants: list[list[int]] = [[] for _ in nodes]
        for place, node in enumerate(nodes):
            for need in node.needs:
                self.dependants[need].append(place)
        self.output = [node.output_bytes for node in nodes]
        self.cpu = [node.cpu for node in nodes]
        self.seconds = [node.seconds for node in nodes]
        self.inner = [place for place, node in enumerate(nodes) if node.inner]
        self.grows = [node.memory for node in nodes]
        self.held = [node.held for node in nodes]
        names = {name: i for i, name in enumerate(dict.fromkeys(node.task for node in nodes))}
        self.names = [names[node.task] for node in nodes]
        self.n_names = len(names)
        self.needed_names = [{self.names[need] for need in node.needs} for node in nodes]

    def on(self, size: Size, seconds: Sequence[float] | None) -> list[float]:
        """Give the seconds that each node takes on a thread of a size: what computes depends on it.

        Parameters
        ----------
        size : Size
            The cluster.
        seconds : sequence of float, optional
            Durations in the place of those observed.
        """
        given = self.seconds if seconds is None else seconds
        if size.speed == 1.0:
            return list(given)
        return [taken * size.stretch(cpu) for taken, cpu in zip(given, self.cpu, strict=True)]
