"""Fresh kernels without their imports' time: ``python tests/fargate/kernels.py``.

Everything is imported once; each line of the standard input is then a verb for a forked process,
whose number is printed at once, and its exit code when it has ended.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings

from daskenv_lab import inventory, lifecycle
from daskenv_lab.providers.fargate import provider  # noqa: F401 - what a kernel has imported

NAME = "crash"
SETTINGS = {
    "worker_cpu": 256,
    "worker_mem": 1024,
    "scheduler_cpu": 256,
    "scheduler_mem": 1024,
    "n_workers": 1,
    "rehearse": True,
}


def play(verb: str) -> None:
    """Carry out a verb in this process."""
    if verb == "up":
        lifecycle.up("fargate", name=NAME, **SETTINGS)
    else:
        inventory.down(NAME)


def main() -> None:
    """Fork a process for each verb."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                play(line.strip())
            except BaseException:  # noqa: BLE001 - the parent reads it
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
