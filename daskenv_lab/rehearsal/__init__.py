"""An AWS account on this machine: moto answers the API, and ECS tasks run as processes.

It proves the way from a request to running schedulers and workers, with states, faults and
security groups. It proves nothing about real permissions, images and networks.
"""

from daskenv_lab.rehearsal.control import (
    calls,
    clear,
    faults,
    forget_calls,
    held,
    order,
    reach,
)
from daskenv_lab.rehearsal.fault import FAULT_KINDS, Fault
from daskenv_lab.rehearsal.launch import server_folder, start, status, stop
from daskenv_lab.rehearsal.place import LATENCY_PROFILES, Latency, Reach, Rehearsal

__all__ = [
    "FAULT_KINDS",
    "LATENCY_PROFILES",
    "Fault",
    "Latency",
    "Reach",
    "Rehearsal",
    "calls",
    "clear",
    "faults",
    "forget_calls",
    "held",
    "order",
    "reach",
    "server_folder",
    "start",
    "status",
    "stop",
]
