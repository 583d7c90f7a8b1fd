"""Sizes of tasks: how AWS writes them, and which Fargate offers."""

from __future__ import annotations

import re

from daskenv_lab.rehearsal.refusal import Refused

# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
FARGATE: dict[int, tuple[int, ...]] = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4096 + 1, 1024)),
    1024: tuple(range(2048, 8192 + 1, 1024)),
    2048: tuple(range(4096, 16384 + 1, 1024)),
    4096: tuple(range(8192, 30720 + 1, 1024)),
    8192: tuple(range(16384, 61440 + 1, 4096)),
    16384: tuple(range(32768, 122880 + 1, 8192)),
}
"""MB of memory by CPU units."""


def units(text: str, whole: str) -> int:
    """Read a number of units, or of wholes: ``1024``, ``1 vCPU``, ``.5 vcpu``, ``2 GB``.

    Raises
    ------
    Refused
        It is neither.

    Examples
    --------
    >>> units("2 GB", "GB"), units(".5 vcpu", "VCPU"), units("512", "GB")
    (2048, 512, 512)
    """
    fits = re.fullmatch(rf"\s*(\d*\.?\d+)\s*({whole})?\s*", text, re.IGNORECASE)
    if fits is None:
        raise Refused("ClientException", f"Invalid '{whole.lower()}' setting: {text}")
    return round(float(fits[1]) * (1024 if fits[2] else 1))
