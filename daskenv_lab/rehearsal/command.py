"""The commands of containers: Dask's listen on the task's own address, and are found.

In a container everything listens on the container's addresses. Here a task shares this machine
with others, so Dask's programs are told which address is theirs.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

_SCHEDULER = {"dask-scheduler", "distributed.cli.dask_scheduler"}
_WORKER = {
    "dask-worker",
    "dask-cuda-worker",
    "distributed.cli.dask_worker",
    "dask_cuda.cli",
}
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_ANY = ("0.0.0.0", "[::]", "")  # noqa: S104 - these are looked for, and replaced

SCHEDULER_DASHBOARD = 8787


class NotInImage(Exception):
    """The image holds no such program."""


def on_address(command: list[str], address: str) -> list[str]:
    """Make a Dask program listen on `address` only; leave all other commands as they are.

    Examples
    --------
    >>> on_address(["dask-worker", "tcp://127.77.0.4:8786"], "127.77.0.5")
    ['dask-worker', '--host', '127.77.0.5', '--dashboard-address', '127.77.0.5:0', \
'tcp://127.77.0.4:8786']
    >>> on_address(["echo", "hello"], "127.77.0.5")
    ['echo', 'hello']
    """
    role, length = _program(command)
    if role is None:
        return command
    program, given = command[:length], command[length:]
    given = _narrowed(given, "--host", address)
    given = _narrowed(given, "--listen-address", address)
    given = _narrowed(given, "--dashboard-address", address)
    added = []
    if not _has(given, "--host", "--interface", "--listen-address"):
        added += ["--host", address]
    if not _has(given, "--dashboard-address", "--no-dashboard"):
        port = SCHEDULER_DASHBOARD if role == "scheduler" else 0
        added += ["--dashboard-address", f"{address}:{port}"]
    return [*program, *added, *given]


def found(command: list[str], path: str) -> list[str]:
    """Put the program's whole path in its place.

    Raises
    ------
    NotInImage
        The image's folders hold no such program.
    """
    name = command[0]
    where = shutil.which(name, path=path)
    if where is None and _PYTHON.fullmatch(name):
        # An image with Python has it under these names, whatever ours is called.
        where = sys.executable
    if where is None:
        raise NotInImage(name)
    return [where, *command[1:]]


def _program(command: list[str]) -> tuple[str | None, int]:
    """Tell which part of Dask a command starts, and how many words name the program."""
    words = [Path(word).name if i == 0 else word for i, word in enumerate(command)]
    if len(words) > 2 and _PYTHON.fullmatch(words[0]) and words[1] == "-m":
        inner = ["dask" if words[2] == "dask" else words[2], *words[3:]]
        role, length = _program(inner)
        return role, length + 2 if role else 0
    if not words:
        return None, 0
    if words[0] in _SCHEDULER:
        return "scheduler", 1
    if words[0] in _WORKER:
        return "worker", 1
    if words[:2] == ["dask", "scheduler"]:
        return "scheduler", 2
    if words[:2] == ["dask", "worker"]:
        return "worker", 2
    if words[:3] == ["dask", "cuda", "worker"]:
        return "worker", 3
    return None, 0


def _has(given: list[str], *options: str) -> bool:
    return any(word.split("=", 1)[0] in options for word in given)


def _narrowed(given: list[str], option: str, address: str) -> list[str]:
    """Replace "all addresses" in an option's value by the one address."""
    told = list(given)
    for i, word in enumerate(told):
        if word == option and i + 1 < len(told):
            told[i + 1] = _one(told[i + 1], address)
        elif word.startswith(f"{option}="):
            told[i] = f"{option}={_one(word[len(option) + 1 :], address)}"
    return told


def _one(value: str, address: str) -> str:
    protocol, separator, rest = value.rpartition("://")
    host, colon, port = rest.rpartition(":") if ":" in rest else (rest, "", "")
    if not colon and rest.isdigit():
        host, colon, port = "", ":", rest
    if host not in _ANY:
        return value
    return f"{protocol}{separator}{address}{colon}{port}"
