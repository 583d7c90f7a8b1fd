"""Bytes that are much like others, kept in a tenth of their size.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import sys
import zlib

import cloudpickle


class Squeezed:
    """Compressed bytes; what they have in common with `like` takes nothing.

    Parameters
    ----------
    plain : bytes
        What is kept.
    like : bytes
        What many others are like too; each of them refers to it.
    """

    __slots__ = ("_like", "_small")

    def __init__(self, plain: bytes, like: bytes) -> None:
        squeezer = zlib.compressobj(1, zdict=like)
        self._small = squeezer.compress(plain) + squeezer.flush()
        self._like = like

    def plain(self) -> bytes:
        """Give the bytes."""
        return zlib.decompressobj(zdict=self._like).decompress(self._small)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
