"""The record of named clusters: small files, one for each name, in the state folder.

A record says where a cluster is found again and which settings it was asked for with; it holds no
secret. What is really running is asked of the provider.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import filelock

from daskenv_lab import config
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.environments import Environment, from_dict
from daskenv_lab.errors import (
    DaskEnvLabError,
    StateError,
    UnknownNameError,
    WaitTimeout,
    did_you_mean,
)
from daskenv_lab.private import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCHEMA_VERSION = 1


class DamagedRecordWarning(UserWarning):
    """A record could not be read; it was kept aside under another name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One name and what it stands for.

    Examples
    --------
    >>> from daskenv_lab import DaskGatewayEnvironment
    >>> Record(name="dev", environment=DaskGatewayEnvironment("local")).held
    True
    """

    name: str
    environment: Environment
    """The settings asked for, without hooks."""

    ref: ClusterRef | None = None
    """Where the cluster is; None while it is about to be asked for."""

    ready: bool = False
    """Whether the cluster was seen running; False means that its creator may have died."""

    held: bool = True
    """Whether the name holds the cluster; `detach` lets go."""

    created_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Write the record down in JSON's types."""
        return {
            "schema": SCHEMA_VERSION,
            "name": self.name,
            "environment": self.environment.to_dict(),
            "ref": self.ref.to_dict() if self.ref else None,
            "ready": self.ready,
            "held": self.held,
            "created_at": self.created_at.isoformat() if self.created_at else None,
        }

    @classmethod
    def from_dict(cls, written: dict[str, Any]) -> Record:
        """Make the record that `to_dict` wrote down.

        Raises
        ------
        StateError
            It comes from another version.
        """
        if written["schema"] != SCHEMA_VERSION:
            raise StateError(f"the schema is {written['schema']!r} and not {SCHEMA_VERSION}")
        created = written["created_at"]
        return cls(
            name=written["name"],
            environment=from_dict(written["environment"]),
            ref=ClusterRef.from_dict(written["ref"]) if written["ref"] else None,
            ready=bool(written["ready"]),
            held=bool(written["held"]),
            created_at=datetime.fromisoformat(created) if created else None,
        )


def new(name: str, environment: Environment) -> Record:
    """Make the record of a cluster that is about to be asked for, without writing it."""
    return Record(name=name, environment=environment.without_hooks(), created_at=datetime.now(UTC))


def read(name: str) -> Record | None:
    """Read a name's record; None if there is none.

    A damaged record, or one of another version, is kept aside beside the others, with a warning
    that names it; the name is then free.

    Raises
    ------
    StateError
        The state folder cannot be read.
    """
    path = _path(name)
    try:
        written = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        written = ""
    except OSError as error:
        raise StateError(
            f"the record {path} cannot be read ({error.strerror}); mend its permissions"
        ) from error
    try:
        return Record.from_dict(json.loads(written))
    except (ValueError, KeyError, TypeError, AttributeError, DaskEnvLabError) as error:
        kept = _keep_aside(path)
        warnings.warn(
            f"the record of the cluster {name!r} cannot be read ({error}); it was kept as {kept}, "
            "and its cluster, if it still runs, is listed by `daskenv ls`",
            DamagedRecordWarning,
            stacklevel=2,
        )
        return None


def known(name: str) -> Record:
    """Read a name's record.

    Raises
    ------
    UnknownNameError
        There is none; the nearest name is named.
    """
    record = read(name)
    if record is None:
        raise UnknownNameError(
            f"no cluster is named {name!r}; {did_you_mean(name, names())} "
            "(start one with `daskenv up`)"
        )
    return record


def write(record: Record, **changes: Any) -> Record:
    """Write a record, with some of its fields changed, whole or not at all.

    Raises
    ------
    StateError
        The disk is full, or the state folder cannot be written; the former record stays.
    """
    changed = replace(record, **changes)
    path = _path(changed.name)
    try:
        write_private(path, json.dumps(changed.to_dict(), indent=1).encode())
    except OSError as error:
        raise StateError(
            f"the record {path} cannot be written ({error.strerror}); make room or mend its "
            "permissions, or name another folder with DASK_DASKENV__STATE_DIR"
        ) from error
    return changed


def update(name: str, ref: ClusterRef, **changes: Any) -> None:
    """Change some fields of a record, under its lock, if it still stands for that cluster."""
    with lock(name, progress=_silent):
        record = read(name)
        if record is not None and record.ref == ref:
            write(record, **changes)


def doom(record: Record) -> None:
    """Note that a cluster is about to be destroyed; if that is cut short, nobody reuses it."""
    with contextlib.suppress(StateError):  # A full disk keeps no cluster alive.
        write(record, ready=False)


def forget(name: str) -> None:
    """Remove a name's record; nothing happens to its cluster."""
    _path(name).unlink(missing_ok=True)


def names() -> list[str]:
    """List the recorded names, in the order of the alphabet."""
    return sorted(path.stem for path in _folder().glob("*.json"))


@contextlib.contextmanager
def lock(name: str, *, progress: Callable[[str], None]) -> Iterator[None]:
    """Hold a name, so that only one process at a time creates or destroys its cluster.

    The lock ends with its process, however that ends.

    Raises
    ------
    WaitTimeout
        Another process holds the name for longer than ``daskenv.timeouts.lock``.
    """
    limit = config.seconds("timeouts.lock")
    with try_lock(name) as held:
        if held:
            yield
            return
    progress(f"Waiting for another process that works on {name!r}")
    with try_lock(name, timeout=limit) as held:
        if not held:
            raise WaitTimeout(
                f"another process has worked on the cluster {name!r} for {limit:g} s; "
                "wait for it, or choose another name"
            )
        yield


@contextlib.contextmanager
def try_lock(name: str, *, timeout: float = 0) -> Iterator[bool]:
    """Hold a name if it is free within `timeout` seconds; yields whether it is held.

    Raises
    ------
    StateError
        The lock's file cannot be made.
    """
    # One object for each file, so that who holds a name in a thread may take it there again.
    path = _folder() / f"{config.cluster_name(name)}.lock"
    file = filelock.FileLock(path, mode=0o600, is_singleton=True)
    try:
        file.acquire(timeout=timeout)
    except filelock.Timeout:
        yield False
        return
    except OSError as error:
        raise StateError(
            f"the lock of {name!r} in {_folder()} cannot be taken ({error.strerror}); make room or "
            "mend its permissions, or name another folder with DASK_DASKENV__STATE_DIR"
        ) from error
    try:
        yield True
    finally:
        file.release()


def _silent(_: str) -> None:
    pass


def _folder() -> Path:
    folder = config.state_dir() / "clusters"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"the folder {folder} cannot be made ({error.strerror}); name another state folder "
            "with DASK_DASKENV__STATE_DIR"
        ) from error
    return folder


def _path(name: str) -> Path:
    return _folder() / f"{config.cluster_name(name)}.json"


def _keep_aside(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(kept)
    return kept
