"""The sizes that a Fargate task can have: which memory goes with which CPU."""

from __future__ import annotations

import itertools

from daskenv_lab.errors import EnvironmentValueError

_MEMORIES: dict[int, tuple[int, ...]] = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4096 + 1, 1024)),
    1024: tuple(range(2048, 8192 + 1, 1024)),
    2048: tuple(range(4096, 16384 + 1, 1024)),
    4096: tuple(range(8192, 30720 + 1, 1024)),
    8192: tuple(range(16384, 61440 + 1, 4096)),
    16384: tuple(range(32768, 122880 + 1, 8192)),
}
"""MiB by CPU units, as the table "Task CPU and memory" of the ECS developer guide has them.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
"""

CPUS = tuple(_MEMORIES)
"""The CPU units that a task can have; 1024 are one virtual CPU."""

Pair = tuple[int, int]
"""CPU units and MiB."""


def memories(cpu: int) -> tuple[int, ...]:
    """Give the memory sizes in MiB that go with a number of CPU units, smallest first.

    It is empty for a number of units that Fargate does not have.

    Examples
    --------
    >>> memories(256)
    (512, 1024, 2048)
    """
    return _MEMORIES.get(cpu, ())


def nearest(cpu: int, memory: int) -> tuple[Pair, ...]:
    """Give the valid pairs nearest to one that may not be valid.

    Parameters
    ----------
    cpu : int
        CPU units.
    memory : int
        MiB.

    Returns
    -------
    tuple of pairs
        Only the pair itself if it is valid. Otherwise up to three: the smallest one that has at
        least what was asked for, and then those nearest in memory for the CPU asked for (or the
        next above), and nearest in CPU for the memory asked for.

    Examples
    --------
    >>> nearest(1024, 1024)
    ((1024, 2048), (512, 1024))
    """
    if memory in memories(cpu):
        return ((cpu, memory),)
    enough = [(c, m) for c in CPUS for m in memories(c) if c >= cpu and m >= memory]
    units = next((c for c in CPUS if c >= cpu), CPUS[-1])
    same_cpu = (units, min(memories(units), key=lambda m: abs(m - memory)))
    # As if on a logarithmic scale: half as much CPU is as far away as twice as much.
    same_memory = min(
        ((c, min(memories(c), key=lambda m: abs(m - memory))) for c in CPUS),
        key=lambda pair: (abs(pair[1] - memory), max(pair[0], cpu) / max(1, min(pair[0], cpu))),
    )
    return tuple(dict.fromkeys([*enough[:1], same_cpu, same_memory]))


def check(cpu: int, memory: int, *, what: str) -> None:
    """Accept a pair that Fargate has.

    Parameters
    ----------
    cpu : int
        CPU units.
    memory : int
        MiB.
    what : str
        Whose size it is, for the sentence: ``"worker"``.

    Raises
    ------
    EnvironmentValueError
        Fargate has no such size; the sentence names the nearest ones.

    Examples
    --------
    >>> check(1024, 4096, what="worker")
    """
    if memory in memories(cpu):
        return
    why = (
        f"{cpu} CPU units go with {_spelt(memories(cpu))} MiB"
        if memories(cpu)
        else f"a task has {_spelt(CPUS)} CPU units"
    )
    near = ", or ".join(f"{what}_cpu={c} and {what}_mem={m}" for c, m in nearest(cpu, memory))
    raise EnvironmentValueError(
        f"Fargate has no {what} with {what}_cpu={cpu} and {what}_mem={memory}: {why}; take {near}"
    )


def _spelt(values: tuple[int, ...]) -> str:
    """Write 2048, 3072, …, 8192 short."""
    steps = {b - a for a, b in itertools.pairwise(values)}
    if len(values) > 4 and len(steps) == 1:
        return f"{values[0]} to {values[-1]} in steps of {steps.pop()}"
    return f"{', '.join(map(str, values[:-1]))} or {values[-1]}"
