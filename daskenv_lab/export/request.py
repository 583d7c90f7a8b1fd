"""What is asked of an export: its format, where the settings come from, and what goes with them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import ExportError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

DEFAULT_NAMES: Mapping[str, str] = {
    "python": "environment.py",
    "json": "environment.json",
    "dask": "environment.yaml",
    "prefect": "prefect.yaml",
    "dockerfile": "Dockerfile",
}
"""The formats, each with the name of the file that is written when none is given."""

_OPTIONS: Mapping[str, frozenset[str]] = {
    "python": frozenset({"registration", "flow"}),
    "json": frozenset(),
    "dask": frozenset({"profile"}),
    "prefect": frozenset({"entrypoint", "name", "work_pool_name", "parameters", "description"}),
    "dockerfile": frozenset(),
}
"""What may be asked of each format besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image is to hold."""

    pins: Mapping[str, str] = field(default_factory=dict)
    """Versions by distribution, `dask` among them."""

    python: str = ""
    """The minor version of Python, such as ``3.11``."""

    doubts: Mapping[str, str] = field(default_factory=dict)
    """Why an index may not have what is pinned, or what no package is known to bring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundFlow:
    """A flow that a module binds to its environment, under the same name."""

    name: str

    value: Any = None
    """The flow itself, which is written by its source; None for one that is imported."""

    module: str = ""
    """The module that offers the flow, if it is imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One export as it is asked for.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> when = datetime(2026, 11, 21, tzinfo=UTC)
    >>> Request(source="the session 'dev'", when=when).format_for("environment.json")
    'json'
    """

    source: str
    """Where the settings come from, such as ``the session 'dev'``."""

    when: datetime
    """When they were read."""

    format: str | None = None
    """One of the keys of `DEFAULT_NAMES`; None takes what the file's name says."""

    registration: Mapping[str, Any] | None = None
    """The keyword arguments of the call that registers a flow, with the flow itself as ``flow``."""

    flow: BoundFlow | None = None
    """A flow that the module binds to the environment."""

    profile: str | None = None
    """The name of Dask's profile."""

    entrypoint: str | None = None
    """Where Prefect finds the flow, such as ``flows.py:etl``."""

    name: str | None = None
    """The deployment's name."""

    work_pool_name: str | None = None
    parameters: Mapping[str, Any] | None = None
    description: str | None = None

    image: Image = field(default_factory=Image)

    def format_for(self, path: str | Path) -> str:
        """Give the format that is asked for, or else what the file's name says.

        Raises
        ------
        ExportError
            There is no such format, the name belongs to another one, or something was asked for
            that the format does not hold.
        """
        named = _named(Path(path).name)
        chosen = self.format or named or "python"
        if chosen not in DEFAULT_NAMES:
            raise ExportError(
                f"there is no format {chosen!r}; {did_you_mean(chosen, DEFAULT_NAMES)}"
            )
        if chosen == "python" and Path(path).suffix != ".py":
            raise ExportError(
                f"{str(path)!r} is no name for a Python module; write {f'{path}.py'!r} instead"
            )
        if named not in (None, chosen) and (named, chosen) != ("dask", "prefect"):
            raise ExportError(
                f"{str(path)!r} is a name for the format {named!r}, and {chosen!r} was asked for; "
                f"write {DEFAULT_NAMES[chosen]!r}, or leave the format out"
            )
        self._refuse_options_of_others(chosen)
        return chosen

    def _refuse_options_of_others(self, chosen: str) -> None:
        optional = frozenset().union(*_OPTIONS.values())
        given = {f.name for f in fields(self) if getattr(self, f.name) is not None} & optional
        for name in sorted(given - _OPTIONS[chosen]):
            owner = next(other for other, own in _OPTIONS.items() if name in own)
            raise ExportError(
                f"{name}={getattr(self, name)!r:.80} was given, which the format {chosen!r} does "
                f"not hold; leave it out, or take the format {owner!r}"
            )


def _named(name: str) -> str | None:
    """Give the format that a file's name says."""
    if name == "prefect.yaml" or name.endswith(".prefect.yaml"):
        return "prefect"
    if name == "Dockerfile" or name.endswith(".dockerfile"):
        return "dockerfile"
    suffixes = {".py": "python", ".json": "json", ".yaml": "dask", ".yml": "dask"}
    return suffixes.get(Path(name).suffix)
