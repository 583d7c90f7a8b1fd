"""Everything of the server that needs moto."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import secrets
import signal
import threading
from typing import TYPE_CHECKING, Any

from moto.backends import get_backend
from werkzeug.serving import make_server

from daskenv_lab.background import Background, write_record
from daskenv_lab.rehearsal.cloud import Cloud
from daskenv_lab.rehearsal.doors import Doors
from daskenv_lab.rehearsal.gate import Gate
from daskenv_lab.rehearsal.launch import RECORD
from daskenv_lab.rehearsal.life import live
from daskenv_lab.rehearsal.place import Latency, Rehearsal
from daskenv_lab.rehearsal.process import sessions
from daskenv_lab.rehearsal.seeds import seed
from daskenv_lab.rehearsal.watch import watch_memory, watch_use

if TYPE_CHECKING:
    from pathlib import Path

    from daskenv_lab.rehearsal.task import Task

log = logging.getLogger(__name__)

# What the first calls would otherwise wait for.
_SERVICES = ("ecs", "ec2", "iam", "logs", "secretsmanager", "sts", "ecr")


async def serve(folder: Path, tasks: Path, settings: dict[str, Any]) -> None:
    """Answer until told to end, or until nobody has used it for long."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    # It would write a line for each call.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    _allow_many_files()
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    cloud = Cloud(
        region=settings["region"],
        folder=tasks,
        latency=Latency.of(settings["latency"]),
        images=settings["images"],
        loop=loop,
    )
    cloud.start_life = lambda task: _begin(cloud, task)
    # moto, like AWS, knows a key's number by its twenty characters.
    key_id, secret = f"REHEARSAL{secrets.token_hex(6)[1:].upper()}", secrets.token_urlsafe(30)
    gate = Gate(cloud, key_id, secret)
    server = make_server("127.0.0.1", 0, gate, threaded=True)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    here = Rehearsal(
        endpoint=f"http://127.0.0.1:{server.server_port}",
        region=cloud.region,
        key_id=key_id,
        secret=secret,
        pid=os.getpid(),
    )
    started = Background.current().started
    write_record(folder / RECORD, {"schema": 1, **here.to_dict(), "started": started})
    side = [
        asyncio.create_task(Doors(cloud).keep()),
        asyncio.create_task(watch_memory(cloud)),
        asyncio.create_task(watch_use(cloud, settings["idle_timeout"], end)),
    ]
    try:
        await asyncio.to_thread(_prepare, cloud, gate, key_id)
        await end.wait()
    finally:
        for task in (*side, *cloud.lives):
            task.cancel()
        _end_processes(cloud)
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        (folder / RECORD).unlink(missing_ok=True)


def _allow_many_files() -> None:
    # A task takes about five: its pipe, its claim, and the doors of its ports.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _prepare(cloud: Cloud, gate: Gate, key_id: str) -> None:
    seed(cloud, key_id)
    gate.ready.set()
    for name in _SERVICES:
        get_backend(name)


def _begin(cloud: Cloud, task: Task) -> None:
    life = asyncio.create_task(live(cloud, task))
    cloud.lives.add(life)
    life.add_done_callback(cloud.lives.discard)


def _end_processes(cloud: Cloud) -> None:
    members = sessions()
    for task in cloud.tasks.values():
        for container in task.containers:
            for pid in members.get(container.pid or -1, ()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
