"""Bytes that are much like others, kept and sent in a tenth of their size.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import sys
import threading
import zlib

import cloudpickle

SAMPLE = 8192
"""Bytes of a sample at most: it travels with the calls that refer to it."""

WINDOW = 14
"""How far back zlib looks, as a power of two: twice a sample. A wider one takes twice as long."""


class Squeezed:
    """Compressed bytes; what they have in common with `like` takes nothing.

    Parameters
    ----------
    plain : bytes
        What is kept.
    like : bytes
        What many others are like too; each of them refers to it.
    """

    __slots__ = ("_like", "small")

    def __init__(self, plain: bytes, like: bytes) -> None:
        squeezer = zlib.compressobj(1, wbits=WINDOW, zdict=like)
        self.small = squeezer.compress(plain) + squeezer.flush()
        """What differs from `like`; `unsqueezed` takes both."""

        self._like = like

    def plain(self) -> bytes:
        """Give the bytes."""
        return unsqueezed(self.small, self._like)


class Alike:
    """Squeezes bytes that are much like each other; safe in several threads.

    Parameters
    ----------
    sample : bytes
        What they are like, where it is known.
    """

    def __init__(self, sample: bytes = b"") -> None:
        self.sample = sample
        """The first of them, to which the others refer; of a large one its beginning."""

        self._choosing = threading.Lock()

    def squeeze(self, plain: bytes) -> Squeezed:
        """Squeeze bytes by what they have in common with the first."""
        with self._choosing:
            self.sample = self.sample or plain[:SAMPLE]
        return Squeezed(plain, self.sample)


def unsqueezed(small: bytes, like: bytes) -> bytes:
    """Give the bytes of which only what differs from `like` is here."""
    return zlib.decompressobj(zdict=like).decompress(small)


cloudpickle.register_pickle_by_value(sys.modules[__name__])
