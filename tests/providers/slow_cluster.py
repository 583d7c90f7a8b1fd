"""A cluster class that takes its time, for a holder in another process."""

from __future__ import annotations

import time
from typing import Any

import distributed


class SlowCluster(distributed.LocalCluster):
    """A LocalCluster after a pause of `seconds`."""

    def __init__(self, seconds: float, **kwargs: Any) -> None:
        time.sleep(seconds)
        super().__init__(**kwargs)
