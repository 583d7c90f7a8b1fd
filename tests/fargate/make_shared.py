"""Make the shared set in a process of its own, and die with SIGKILL at the k-th AWS call.

Usage: ``make_shared.py K [before|after]`` with the account as JSON on standard input; K = 0 lives.
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
    """Read the account, and make the set in it."""
    endpoint, region, key_id, secret = json.loads(sys.stdin.readline())
    aws = Aws(
        region=region, endpoint=endpoint, credentials=Credentials(key_id=key_id, secret=secret)
    )
    fatal = int(sys.argv[1])
    if fatal:
        counted = itertools.count(1)

        def die(**_: Any) -> None:
            if next(counted) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        for service in ("ecs", "iam", "logs", "ec2", "sts"):
            aws.client(service).meta.events.register(EVENTS[sys.argv[2]], die)
    print(json.dumps(shared.ensure(aws, {}, progress=lambda _: None).to_dict()))


if __name__ == "__main__":
    main()
