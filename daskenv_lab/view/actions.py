"""What is done with a cluster that runs: the same in the panel, on the page and over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from daskenv_lab.view.call import Call, Named

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A whole number from 0 upwards that an action takes."""

    name: str
    """Its name in the request to our Jupyter Server extension."""

    label: str
    value: int
    """What a field of it shows first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that can be done with a cluster, in this process or over HTTP."""

    control: str
    """Its name in `Lab.said`."""

    label: str
    """What a button of it says."""

    call: Callable[..., Call]
    """Gives the Python call; takes the numbers by their names."""

    path: str
    """Where our Jupyter Server extension does it, below ``daskenv/api/``."""

    method: str = "POST"
    numbers: tuple[Number, ...] = ()
    done: str = "Asked for."
    """The sentence when it is done."""

    sure: str = ""
    """What is asked before."""

    @property
    def code(self) -> str:
        """The Python call, with each number's name in braces in its place."""
        return self.call(**{n.name: Named(f"{{{n.name}}}", None) for n in self.numbers}).code


def actions(name: str, *, workers: int = 1) -> dict[str, Action]:
    """Give what can be done with a named cluster, by control.

    Parameters
    ----------
    name : str
        The cluster's.
    workers : int
        The number of workers that is offered first.

    Examples
    --------
    >>> print(actions("dev", workers=2)["adapt"].code)
    daskenv_lab.connect('dev').adapt({minimum}, {maximum})
    """
    path = f"clusters/{quote(name, safe='')}"
    found = (
        Action(
            control="scale",
            label="Scale",
            call=lambda n: Call(what="scale", on=name, positional=(n,)),
            path=f"{path}/scale",
            numbers=(Number(name="n", label="Workers", value=workers),),
        ),
        Action(
            control="adapt",
            label="Follow the load",
            call=lambda minimum, maximum: Call(
                what="adapt", on=name, positional=(minimum, maximum)
            ),
            path=f"{path}/adapt",
            numbers=(
                Number(name="minimum", label="At least", value=0),
                Number(name="maximum", label="At most", value=10),
            ),
        ),
        Action(
            control="stop",
            label="Stop the flow run",
            call=lambda: Call(what="stop_flow_runs", on=name),
            path=f"{path}/stop",
        ),
        Action(
            control="down",
            label="Take down",
            call=lambda: Call(what="down", positional=(name,)),
            path=path,
            method="DELETE",
            done=f"{name} is gone.",
            sure="Really? Click again",
        ),
    )
    return {action.control: action for action in found}
