"""How numbers are said, in sentences and in columns."""

from __future__ import annotations


def many(n: int, noun: str) -> str:
    """Say how many of something.

    Examples
    --------
    >>> many(1, "worker"), many(0, "worker")
    ('1 worker', '0 workers')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def span(seconds: float) -> str:
    """Say a time roughly.

    Examples
    --------
    >>> span(45), span(750), span(9000), span(200000)
    ('45 s', '12 min', '2.5 h', '2.3 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def memory(n: float) -> str:
    """Say a number of bytes roughly.

    Examples
    --------
    >>> memory(512), memory(3_500_000), memory(2 * 2**30)
    ('512 B', '3.3 MiB', '2.0 GiB')
    """
    units = ("B", "KiB", "MiB", "GiB")
    power = next((p for p in range(3) if n < 1024 ** (p + 1)), 3)
    return f"{n / 1024**power:.{min(power, 1)}f} {units[power]}"
