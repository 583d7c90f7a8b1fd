"""Addresses of this machine for tasks: 127.77.x.y inside, and 127.78.x.y for the world.

Other rehearsals may run on the machine at the same time. A task's address is claimed by binding
one port on it, which the kernel grants once, and which falls free when the server dies.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import re
import socket

PRIVATE = ipaddress.IPv4Network("127.77.0.0/16")
PUBLIC = ipaddress.IPv4Network("127.78.0.0/16")
# Nothing ever listens here: where a task's connections go that its groups do not let through.
NOWHERE = ipaddress.IPv4Network("127.79.0.0/16")

# Subnets that somebody made elsewhere (10.0.0.0/8, say) share what the default subnets leave.
_OTHERS = ipaddress.IPv4Network("127.77.240.0/20")

_CLAIM_PORT = 5167
_ATTEMPTS = 2000

IN_TEXT = re.compile(r"127\.7[78]\.\d{1,3}\.\d{1,3}(?=:\d)")
"""An address of a task that a port follows."""


class Claim:
    """A private address that is ours until `release`, and the public one beside it."""

    def __init__(self, private: str, held: socket.socket) -> None:
        self.private = private
        self.public = _beside(private, PUBLIC)
        self._held = held

    def release(self) -> None:
        """Let others have it."""
        self._held.close()


def claim(cidr: str) -> Claim:
    """Find an address of a subnet that nobody on this machine has.

    Raises
    ------
    OSError
        All are taken.
    """
    subnet = ipaddress.IPv4Network(cidr)
    block = subnet if subnet.subnet_of(PRIVATE) else _OTHERS
    for _ in range(_ATTEMPTS):
        # AWS keeps the first four addresses of a subnet and the last.
        number = random.randrange(4, block.num_addresses - 1)  # noqa: S311 - no secret
        private = str(block[number])
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with contextlib.ExitStack() as undo:
            undo.callback(held.close)
            try:
                held.bind((private, _CLAIM_PORT))
            except OSError:
                continue
            undo.pop_all()
            return Claim(private, held)
    raise OSError(f"no address of {block} is free")


def nowhere(address: str) -> str:
    """Give the address in place of `address` at which nothing listens."""
    return _beside(address, NOWHERE)


def _beside(address: str, network: ipaddress.IPv4Network) -> str:
    """Give the address of another network with the same last two numbers."""
    return str(network[int(ipaddress.IPv4Address(address)) & 0xFFFF])
