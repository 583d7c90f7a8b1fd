"""Orders to a running rehearsal: faults, counts of calls, and questions about its network."""

from __future__ import annotations

from typing import Any

from daskenv_lab.errors import ProviderUnreachable
from daskenv_lab.rehearsal.fault import Fault
from daskenv_lab.rehearsal.launch import status
from daskenv_lab.rehearsal.place import Reach
from daskenv_lab.rehearsal.wire import ask


def faults() -> list[Fault]:
    """List the faults that are still ordered."""
    return [Fault.from_dict(told) for told in _ask("GET", "faults")["faults"]]


def order(fault: Fault) -> list[str]:
    """Order a fault.

    Returns
    -------
    list of str
        The ARNs of the tasks that are taken back at once, for ``spot``.

    Raises
    ------
    ProviderUnreachable
        No rehearsal runs.

    Examples
    --------
    >>> order(Fault(kind="throttle", operation="ecs:*", times=3))  # doctest: +SKIP
    []
    """
    return list(_ask("POST", "faults", fault.to_dict())["tasks"])


def clear() -> None:
    """Take back all faults."""
    _ask("DELETE", "faults")


def held() -> list[str]:
    """List the calls that ``hold-before`` and ``hold-after`` hold now, as ``service:Operation``."""
    return list(_ask("GET", "held")["calls"])


def calls() -> dict[str, int]:
    """Count the API calls since the start or the last `forget_calls`, by ``service:Operation``."""
    return dict(_ask("GET", "calls")["calls"])


def forget_calls() -> None:
    """Begin to count from nothing."""
    _ask("DELETE", "calls")


def reach(source: str, task: str, port: int) -> Reach:
    """Tell whether the security groups would let a TCP connection in.

    Parameters
    ----------
    source : str
        An address or CIDR, or the ARN of the task that connects.
    task : str
        The ARN of the task that is connected to.
    port : int
        The port there.

    Raises
    ------
    UnknownNameError
        There is no such task.
    """
    return Reach(**_ask("POST", "reach", {"source": source, "task": task, "port": port}))


def _ask(method: str, what: str, body: Any = None) -> dict[str, Any]:
    here = status()
    if here is None:
        raise ProviderUnreachable(
            "no rehearsal runs on this machine; start one with `daskenv rehearse start`"
        )
    return ask(here, method, what, body)
