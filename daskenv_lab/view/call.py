"""What a control does: one Python call, which it shows and which it makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

import daskenv_lab
from daskenv_lab import lifecycle

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Named:
    """A value that stands in a call by the name of the variable that holds it.

    Examples
    --------
    >>> Named("etl", object())
    etl
    """

    name: str
    value: Any

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A public function of the package, or a method of the session that has a name.

    Examples
    --------
    >>> print(Call(what="scale", on="dev", arguments={"n": 3}).code)
    daskenv_lab.connect('dev').scale(n=3)
    >>> print(Call(what="up", positional=("local",), arguments={"name": "dev"}).code)
    daskenv_lab.up('local', name='dev')
    """

    what: str
    """The function's or the method's name."""

    on: str | None = None
    """The name of the session whose method it is."""

    positional: tuple[Any, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    hidden: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that nobody would type, such as a listener for progress."""

    @property
    def code(self) -> str:
        """The call as a user can paste it."""
        words = [repr(value) for value in self.positional]
        odd = {n: v for n, v in self.arguments.items() if not n.isidentifier() or iskeyword(n)}
        words += [f"{n}={v!r}" for n, v in self.arguments.items() if n not in odd]
        words += [f"**{odd!r}"] if odd else []
        owner = "daskenv_lab" if self.on is None else f"daskenv_lab.connect({self.on!r})"
        return f"{owner}.{self.what}({', '.join(words)})"

    def make(self) -> Any:
        """Make the call.

        Raises
        ------
        DaskEnvLabError
            As the function does.
        """
        if self.on is None:
            function = getattr(daskenv_lab, self.what)
        else:
            function = getattr(lifecycle.connect(self.on), self.what)
        values = [v.value if isinstance(v, Named) else v for v in self.positional]
        return function(*values, **self.arguments, **self.hidden)
