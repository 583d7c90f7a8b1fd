"""Sizes of tasks, as AWS lets them be written."""

from __future__ import annotations

import re

from daskenv_lab.rehearsal.refusal import Refused


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
