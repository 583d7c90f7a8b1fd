"""Where a deployment finds its flow, and the proof that it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import Flow

from daskenv_lab import config
from daskenv_lab.errors import RegistrationError

if TYPE_CHECKING:
    from types import ModuleType

PROOF = "daskenv_lab.production.prove"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint:
    """A flow's place, as Prefect writes it down, and the folder that it counts from."""

    folder: Path
    path: str
    """``file.py:name``, relative to the folder, or ``package.module.name``."""

    @property
    def module(self) -> str:
        """The module, as another one in the same folder imports it."""
        where, colon, _ = self.path.rpartition(":")
        return Path(where).stem if colon else self.path.rpartition(".")[0]

    @property
    def beside(self) -> Path:
        """The folder of the flow's file, or for an installed module the working one."""
        where, colon, _ = self.path.rpartition(":")
        return (self.folder / where).parent if colon else self.folder

    @property
    def name(self) -> str:
        """The flow's name in the module."""
        return self.path.rpartition(":" if ":" in self.path else ".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a clean process found at an entrypoint."""

    flow: str
    version: str | None
    description: str | None
    parameters: dict[str, Any]
    """The JSON schema of the flow's parameters."""

    validates: bool
    fingerprint: str | None
    """That of the environment to which the flow is bound; None if it is bound to none."""


def entrypoint_of(flow: Any) -> Entrypoint | None:
    """Find a flow's place; None for a flow that no file holds, such as a notebook's.

    Parameters
    ----------
    flow : prefect.Flow or str
        The flow, or its place: ``file.py:name``, ``package.module:name``.

    Raises
    ------
    RegistrationError
        It is neither, or no file is there.
    """
    if isinstance(flow, str):
        return _written(flow)
    if not isinstance(flow, Flow):
        raise RegistrationError(
            f"{flow!r:.120} is no flow; give a flow, or its place as 'flows.py:etl'"
        )
    module = sys.modules.get(flow.fn.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None or (module.__name__ == "__main__" and _is_kernel(module)):
        return None
    name = _name_in(module, flow)
    if "." in module.__name__:
        # A package's module may import from its neighbours, which a file by itself cannot.
        return Entrypoint(folder=Path.cwd(), path=f"{module.__name__}.{name}")
    return placed(Path(file), name)


def _written(place: str) -> Entrypoint:
    where, _, name = place.rpartition(":")
    if not where or not name.isidentifier():
        raise RegistrationError(
            f"{place!r} is no place of a flow; write it as 'flows.py:etl' or 'package.module:etl'"
        )
    if not where.endswith(".py"):
        return Entrypoint(folder=Path.cwd(), path=f"{where}.{name}")
    file = Path(where).expanduser()
    if not file.is_file():
        raise RegistrationError(
            f"{place!r} names the file {where!r}, which is not in {Path.cwd()}; mend its path"
        )
    return placed(file, name)


def placed(file: Path, name: str) -> Entrypoint:
    """Give the place of a name in a file.

    It counts from the working directory if the file is in it, as imports of its own do.
    """
    file = file.resolve()
    here = Path.cwd().resolve()
    folder = here if file.is_relative_to(here) else file.parent
    return Entrypoint(folder=folder, path=f"{file.relative_to(folder).as_posix()}:{name}")


def _is_kernel(module: ModuleType) -> bool:
    return "get_ipython" in vars(module)


def _name_in(module: ModuleType, flow: Flow[..., Any]) -> str:
    for name, value in vars(module).items():
        if value is flow:
            return name
    for name, value in vars(module).items():
        # What `with_options` was called on: the same function with other options.
        if isinstance(value, Flow) and value.fn is flow.fn:
            return name
    raise RegistrationError(
        f"the module {module.__name__!r} has no name for the flow {flow.name!r}; give it one at "
        "its top level"
    )


def refuse_unbound(place: str) -> None:
    """Refuse a flow that is bound to no environment; see `Environment.refuse_unbound`."""
    if prove(_written(place)).fingerprint is None:
        raise RegistrationError(
            f"the flow at {place!r} is bound to no environment, so that its runs would have no "
            "cluster; give it task_runner=environment.task_runner(), or register it with "
            "`daskenv register`, which binds it"
        )


def prove(entrypoint: Entrypoint) -> Proof:
    """Load the flow in a clean process, in its folder, as a flow run will.

    Raises
    ------
    RegistrationError
        It cannot be loaded; the sentence ends with Python's own.
    """
    limit = config.seconds("production.proof-timeout")
    with tempfile.TemporaryDirectory(prefix="daskenv-") as scratch:
        told = Path(scratch) / "told.json"
        try:
            done = subprocess.run(
                [sys.executable, "-m", PROOF, entrypoint.path, str(told)],
                cwd=entrypoint.folder,
                env=os.environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RegistrationError(
                f"loading {entrypoint.path!r} in a clean process takes longer than {limit:g} s; "
                "move what takes long into the flow, or raise daskenv.production.proof-timeout"
            ) from error
        if done.returncode or not told.exists():
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            raise RegistrationError(
                f"{entrypoint.path!r} cannot be loaded in a clean process in {entrypoint.folder} "
                f"({lines[-1].strip():.300}); mend the module until "
                f"`python -m {PROOF} {entrypoint.path} told.json` works there"
            )
        return Proof(**json.loads(told.read_text(encoding="utf-8")))
