"""Make the shared set in other processes, which may die with SIGKILL at their k-th AWS call.

The account comes as JSON on the first line of the standard input. Each further line, ``K WHEN``,
makes the set in a process of its own, that dies before or after its call K (0: it lives), and
is answered with the exit code and what was made.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from typing import Any

from daskenv_lab.providers.fargate import shared
from daskenv_lab.providers.fargate.aws import Aws, Credentials

EVENTS = {"before": "before-send", "after": "after-call"}


def main() -> None:
    """Fork for each line; nothing of AWS was touched by then, so nothing is shared."""
    account = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        fatal, when = line.split()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.write(writing, make(account, int(fatal), when).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as told:
            made = told.read()
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), made]), flush=True)


def make(account: list[str], fatal: int, when: str) -> str:
    """Make the set, or die on the way."""
    endpoint, region, key_id, secret = account
    aws = Aws(
        region=region, endpoint=endpoint, credentials=Credentials(key_id=key_id, secret=secret)
    )
    counted = itertools.count(1)

    def die(**_: Any) -> None:
        if next(counted) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    for service in ("ecs", "iam", "logs", "ec2"):
        aws.client(service).meta.events.register(EVENTS[when], die)
    return json.dumps(shared.ensure(aws, {}, progress=lambda _: None).to_dict())


if __name__ == "__main__":
    main()
