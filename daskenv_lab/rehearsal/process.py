"""A container as a process of this machine.

Honoured are the command, the process variables, secrets, the stop signal and its patience, the
exit code, and the memory of the whole task, which is watched. Not honoured are the image's files
(the interpreter and packages are those of the server), CPU shares, GPUs (their numbers are told
to the container), users, volumes, health checks and dependencies between containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from daskenv_lab import config
from daskenv_lab.rehearsal.addresses import IN_TEXT, PUBLIC, nowhere
from daskenv_lab.rehearsal.command import NotInImage, found, on_address
from daskenv_lab.rehearsal.secret_values import secret_value

if TYPE_CHECKING:
    import re

    from daskenv_lab.rehearsal.cloud import Cloud
    from daskenv_lab.rehearsal.output import Output
    from daskenv_lab.rehearsal.task import Container, Task

# What belongs to the interpreter, which stands for the image, and not to the user.
_OF_THE_IMAGE = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_STOP_TIMEOUT = 30.0
_LAST_WORDS = 2.0
"""Seconds for the pipe of a process that ended to run empty."""


class CannotStart(Exception):
    """The container runtime refused; the text is its own sentence."""


class Process:
    """One running container."""

    def __init__(
        self, container: Container, process: asyncio.subprocess.Process, output: Output
    ) -> None:
        self.container = container
        self._process = process
        assert process.stdout is not None  # noqa: S101 - for the type checker
        self._copying = asyncio.create_task(output.copy(process.stdout))
        self._ending = asyncio.create_task(self._note_end())

    async def wait(self) -> None:
        """Wait for its end."""
        await asyncio.shield(self._ending)

    async def _note_end(self) -> None:
        code = await self._process.wait()
        # A signal's number is told as Docker does.
        self.container.exit_code = code if code >= 0 else 128 - code
        self.container.status = "STOPPED"

    async def stop(self) -> None:
        """Ask it to end, and end it by force when its patience is over."""
        patience = float(self.container.definition.get("stopTimeout") or _STOP_TIMEOUT)
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), patience)
        await self.kill()

    async def kill(self) -> None:
        """End it with all that it started, and read its last words."""
        for pid in session_members(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._copying, _LAST_WORDS)


async def started(cloud: Cloud, task: Task, container: Container, output: Output) -> Process:
    """Start a container's process.

    Raises
    ------
    CannotStart
        Its image holds no such program.
    SecretNotThere
        A secret cannot be had.
    """
    folder = cloud.folder / task.id / container.name
    for name in ("home", "tmp"):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    variables = _variables(cloud, task, container, folder)
    command = _command(cloud, task, container, variables["PATH"])
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A session of its own, by which all that it starts is found.
            start_new_session=True,
        )
    except OSError as error:
        raise CannotStart(_cannot_start(command[0], error.strerror or str(error))) from error
    container.pid = process.pid
    return Process(container, process, output)


def session_members(leader: int) -> list[int]:
    """List the processes of a session, by its leader's number."""
    return sessions().get(leader, [])


def sessions() -> dict[int, list[int]]:
    """List this machine's processes by session."""
    found_so_far: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - the fastest way, on each tick
        if entry.isdigit():
            with contextlib.suppress(OSError):
                found_so_far.setdefault(os.getsid(int(entry)), []).append(int(entry))
    return found_so_far


def image_folder(cloud: Cloud, image: str) -> str | bool | None:
    """Look up what the configuration says of an image: a folder, False if it does not exist."""
    for pattern, folder in cloud.images.items():
        if fnmatchcase(image, pattern):
            return folder
    return None


def _variables(cloud: Cloud, task: Task, container: Container, folder: Path) -> dict[str, str]:
    own = config.process_variables()
    image = image_folder(cloud, container.image)
    first = [str(image)] if isinstance(image, str) else []
    path = os.pathsep.join([*first, str(Path(sys.executable).parent), _SYSTEM_PATH])
    secrets = {
        str(entry["name"]): secret_value(cloud, str(entry["valueFrom"]))
        for entry in container.definition.get("secrets") or []
    }
    numbers = ",".join(container.gpus)
    return {
        **{name: own[name] for name in _OF_THE_IMAGE if name in own},
        "PATH": path,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "HOSTNAME": f"ip-{(task.private or '127.0.0.1').replace('.', '-')}.ec2.internal",
        "AWS_EXECUTION_ENV": f"AWS_ECS_{task.launch_type}",
        "AWS_REGION": cloud.region,
        "AWS_DEFAULT_REGION": cloud.region,
        # The address where instances ask for credentials is not on this machine.
        "AWS_EC2_METADATA_DISABLED": "true",
        **({"NVIDIA_VISIBLE_DEVICES": numbers, "CUDA_VISIBLE_DEVICES": numbers} if numbers else {}),
        **{k: _let_through(cloud, task, v) for k, v in container.variables.items()},
        **secrets,
    }


def _command(cloud: Cloud, task: Task, container: Container, path: str) -> list[str]:
    command = container.command
    if not command:
        raise CannotStart(
            "CannotStartContainerError: ResourceInitializationError: failed to create new "
            "container runtime task: no command specified"
        )
    command = [_let_through(cloud, task, word) for word in command]
    try:
        return found(on_address(command, task.private or "127.0.0.1"), path)
    except NotInImage as error:
        raise CannotStart(
            _cannot_start(str(error), "executable file not found in $PATH")
        ) from error


def _cannot_start(program: str, why: str) -> str:
    return (
        "CannotStartContainerError: ResourceInitializationError: failed to create new container "
        "runtime task: failed to create shim task: OCI runtime create failed: runc create failed: "
        f'unable to start container process: exec: "{program}": {why}: unknown'
    )


def _let_through(cloud: Cloud, task: Task, word: str) -> str:
    """Send a connection that security groups refuse to where nobody listens."""

    def replaced(fits: re.Match[str]) -> str:
        address = fits[0]
        target = cloud.at(address)
        port = int(word[fits.end() + 1 :].split("/")[0] or 0) if target else 0
        public = address.startswith(str(PUBLIC.network_address)[:7])
        if target is None or cloud.reach(task, target, port, public=public).allowed:
            return address
        return nowhere(address)

    return IN_TEXT.sub(replaced, word)
