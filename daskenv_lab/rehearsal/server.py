"""The rehearsal's server: ``python -m daskenv_lab.rehearsal.server <folder>``.

It reads its settings from its standard input. A warden, forked before anything else, ends the
tasks' processes when the server is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

import filelock

from daskenv_lab.background import end_all, processes_under

LOCK = "server.lock"
TASKS = "tasks"


def main() -> None:
    """Run the server until it is told to end."""
    parser = argparse.ArgumentParser(prog="daskenv_lab.rehearsal.server")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    settings = json.load(sys.stdin)
    os.umask(0o077)
    # Whoever started us may have been killed, and another start us again: one may run.
    try:
        alone = filelock.FileLock(folder / LOCK, mode=0o600).acquire(timeout=30)
    except filelock.Timeout:
        raise SystemExit(f"another rehearsal runs in {folder}") from None
    with alone:
        tasks = folder / TASKS
        tasks.mkdir(mode=0o700, exist_ok=True)
        alive = _warden(tasks)
        try:
            from daskenv_lab.rehearsal.serve import serve
        except ImportError as error:
            raise SystemExit(
                f"a rehearsal needs moto's server, which cannot be imported ({error}); "
                'run pip install "daskenv_lab[rehearsal]"'
            ) from error
        asyncio.run(serve(folder, tasks, settings))
        logging.shutdown()
        # The warden ends with the pipe. The interpreter would take seconds to clear moto away.
        os.close(alive)
        os._exit(0)


def _warden(tasks: Path) -> int:
    """Fork a process that ends the tasks' processes when we are no more.

    Returns
    -------
    int
        The end of a pipe that is open as long as we live.
    """
    watched, alive = os.pipe()
    if os.fork():
        os.close(watched)
        return alive
    os.close(alive)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(watched, 1)
    end_all(processes_under(tasks), patience=0)
    shutil.rmtree(tasks, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
