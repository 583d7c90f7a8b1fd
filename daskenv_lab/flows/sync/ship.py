"""`ship`: bring the user's own modules to a cluster's workers, if they changed."""

from __future__ import annotations

import sys
import threading
import uuid
import weakref
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cloudpickle

from daskenv_lab import config
from daskenv_lab.bounded import Deadline, in_background
from daskenv_lab.errors import CodeError, ProviderUnreachable, WaitTimeout
from daskenv_lab.flows.sync.declared import declared
from daskenv_lab.flows.sync.files import Root, Tree, digest_of, readable, tree_of
from daskenv_lab.flows.sync.find import Found, declared_root, find
from daskenv_lab.flows.sync.onworker import (
    PREFIX,
    Bundle,
    Code,
    Current,
    claim,
    packed,
    store_here,
)
from daskenv_lab.flows.sync.refresh import refresh

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import distributed
    from prefect import Flow

    from daskenv_lab.flows.sync.files import File

LARGE = 256_000
"""Bytes from which a file is an archive of its own, and does not travel with its neighbours."""

NAMED = 6
"""Names in a sentence; of more, the number is told."""

_OWNER = uuid.uuid4().hex
_sent: weakref.WeakKeyDictionary[Any, tuple[Code, dict[str, str]]] = weakref.WeakKeyDictionary()
_sending = threading.Lock()
_by_value: set[str] = set()
_told: set[str] = set()


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is to be shipped for a flow, as it is on disk now."""

    tree: Tree
    names: tuple[str, ...]
    reloaded: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What came of shipping: the code that a flow run uses, and what was done for it."""

    code: Code
    files: tuple[str, ...] = ()
    """The places of the files that changed and were sent; empty if nothing was."""
    size: int = 0
    """Their bytes."""
    workers: int = 0
    """How many workers were there to receive them."""
    sentences: tuple[str, ...] = ()
    """What the user should read; empty if nothing changed."""


def ship(client: distributed.Client, flow: Flow[..., Any] | None = None) -> Shipped:
    """Bring the user's own modules that a flow uses to the workers, if they changed.

    Those that were declared with ``daskenv sync`` in this folder come along. Modules that the
    kernel has loaded from older files are loaded again, so that both ends run the same.

    Raises
    ------
    CodeError
        A module is no Python, cannot be loaded again, or must not be shipped.
    WaitTimeout, ProviderUnreachable
        The cluster does not take it.

    Examples
    --------
    >>> ship(session.client, etl).sentences  # doctest: +SKIP
    ('Shipped 3 files (12 kB) to 2 workers: helpers.py, pkg/',)
    """
    return send(client, gather(flow))


def gather(flow: Flow[..., Any] | None = None) -> Gathered:
    """Read what is to be shipped, and bring the kernel's modules up to their files.

    Raises
    ------
    CodeError
        As for `ship`.
    """
    roots = [declared_root(path) for path in declared()]
    found = find(flow, roots)
    reloaded = refresh(found.reached, found.space)
    if reloaded:
        found = find(flow, roots)
    _travel_by_value(found)
    # What was declared goes before what was found: it may hold the data beside a module.
    taken = {root.place.partition(".")[0] for root in roots}
    for root in roots:
        if not root.place:
            taken |= {n for n in found.roots if _lies_in(found.roots[n], root.path)}
    more = [r for name, rs in sorted(found.roots.items()) if name not in taken for r in rs]
    tree = tree_of([*roots, *more])
    names = {place.partition("/")[0].partition(".")[0] for place in tree.files}
    return Gathered(
        tree=tree,
        names=tuple(sorted(n for n in names if n.isidentifier())),
        reloaded=tuple(reloaded),
        gone=tuple(f"{name} ({path})" for name, path in found.gone.items()),
    )


def send(client: distributed.Client, gathered: Gathered) -> Shipped:
    """Send to a cluster's workers what they lack of it, the workers included that come later.

    Raises
    ------
    CodeError, WaitTimeout, ProviderUnreachable
        The workers do not take it.
    """
    store_here().home = _OWNER
    bundles = _bundles(gathered.tree.files)
    code = Code(
        id=gathered.tree.digest if gathered.tree.files else "",
        names=gathered.names,
        bundles=tuple(sorted(bundles)),
        owner=_OWNER,
    )
    digests = {place: file.digest for place, file in gathered.tree.files.items()}
    with _sending:
        former, before = _sent.get(client, (Code(), {}))
        if not code.id or former == code:
            return Shipped(code=code, sentences=_news(gathered))
        sent, workers = _send(client, code, bundles)
        _sent[client] = (code, digests)
    changed = [p for p in sorted(sent) if before.get(p) != digests[p]]
    size = sum(gathered.tree.files[p].size for p in changed)
    told = []
    if changed:
        told.append(
            f"Shipped {_count(len(changed), 'file')} ({readable(size)}) to "
            f"{_count(workers, 'worker')}: {_tops(changed)}"
        )
    return Shipped(
        code=code,
        files=tuple(changed),
        size=size,
        workers=workers,
        sentences=(*told, *_news(gathered)),
    )


def _send(
    client: distributed.Client, code: Code, bundles: Mapping[str, dict[str, File]]
) -> tuple[list[str], int]:
    """Register what the scheduler lacks; give the places sent, and the number of workers."""
    deadline = Deadline(config.seconds("sync.timeout"))
    wanted = [f"{PREFIX}{bundle}" for bundle in bundles]
    asking = partial(client.run_on_scheduler, claim, client=client.id, wanted=wanted)
    answer = _within(deadline, client, asking)
    sent: list[str] = []
    for bundle, files in bundles.items():
        if f"{PREFIX}{bundle}" in answer["missing"]:
            plugin = Bundle(bundle, _packed(files), _OWNER)
            _within(deadline, client, partial(client.register_plugin, plugin))
            sent += files
    told = _within(deadline, client, partial(client.register_plugin, Current(code)))
    for name in answer["unused"]:
        _within(deadline, client, partial(client.unregister_worker_plugin, name))
    return sent, len(told)


def _packed(files: Mapping[str, File]) -> bytes:
    try:
        return packed({place: file.path.read_bytes() for place, file in files.items()})
    except OSError as error:
        raise CodeError(
            f"{error.filename} went away while it was being shipped ({error.strerror}); run again"
        ) from error


def _within(deadline: Deadline, client: distributed.Client, call: Callable[[], Any]) -> Any:
    address = client.scheduler.address if client.scheduler else "the scheduler"
    try:
        return in_background(call).result(deadline.left)
    except TimeoutError as error:
        raise WaitTimeout(
            f"the workers at {address} did not take the code within {deadline.seconds:g} s; look "
            "at `daskenv logs`, or allow more with daskenv.sync.timeout"
        ) from error
    except (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise CodeError(
            f"a worker cannot write the code into its folder ({error}); mend its permissions, or "
            "name another with Dask's temporary-directory"
        ) from error
    except OSError as error:
        raise ProviderUnreachable(
            f"the code did not reach the workers at {address} ({error}); look at `daskenv status`, "
            "and try again"
        ) from error


def _bundles(files: Mapping[str, File]) -> dict[str, dict[str, File]]:
    """Divide files into archives: by the first part of their places, and each large one alone."""
    groups: dict[str, dict[str, File]] = {}
    for place, file in sorted(files.items()):
        top = place if file.size >= LARGE else place.partition("/")[0]
        groups.setdefault(top, {})[place] = file
    return {digest_of(group): group for group in groups.values()}


def _travel_by_value(found: Found) -> None:
    """Let travel inside the flow what no worker can import, and nothing else of the user's."""
    wanted = {n for n in found.by_value if n in sys.modules}
    for name in wanted | _by_value:
        module = sys.modules.get(name)
        if module is None:
            continue
        if name in wanted:
            cloudpickle.register_pickle_by_value(module)
        elif name in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.unregister_pickle_by_value(module)
    _by_value.clear()
    _by_value.update(wanted)


def _lies_in(roots: list[Root], folder: Path) -> bool:
    return all(root.path.resolve().is_relative_to(folder.resolve()) for root in roots)


def _news(gathered: Gathered) -> tuple[str, ...]:
    """Say what was loaded again; and once, what was left out or is gone."""
    told = []
    if gathered.reloaded:
        told.append(f"Loaded again, as the files have changed: {', '.join(gathered.reloaded)}")
    for what, items in (
        ("Not shipped", gathered.tree.left_out),
        ("The files are gone, so the kernel's own copies travel", list(gathered.gone)),
    ):
        fresh = [item for item in items if item not in _told]
        _told.update(fresh)
        if fresh:
            more = f" and {len(fresh) - NAMED} more" if len(fresh) > NAMED else ""
            told.append(f"{what}: {', '.join(fresh[:NAMED])}{more}")
    return tuple(told)


def _tops(places: list[str]) -> str:
    tops = list(dict.fromkeys(f"{p.partition('/')[0]}{'/' if '/' in p else ''}" for p in places))
    more = f" and {len(tops) - NAMED} more" if len(tops) > NAMED else ""
    return ", ".join(tops[:NAMED]) + more


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
