"""`ship`: bring the user's own modules to a cluster's workers, if they changed."""

from __future__ import annotations

import contextlib
import errno
import sys
import threading
import uuid
import weakref
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import cloudpickle

from daskenv_lab import config
from daskenv_lab.bounded import Deadline, in_background
from daskenv_lab.errors import CodeError, ProviderUnreachable, WaitTimeout
from daskenv_lab.flows.sync.declared import declared, root_of
from daskenv_lab.flows.sync.files import (
    Root,
    Tree,
    digest_of,
    is_module,
    modules_in,
    readable,
    tree_of,
)
from daskenv_lab.flows.sync.find import Found, find
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
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import distributed
    from prefect import Flow

    from daskenv_lab.flows.sync.files import File

LARGE = 256_000
"""Bytes from which a file is an archive of its own, and does not travel with its neighbours."""

NAMED = 6
"""Names in a sentence; of more, the number is told."""

TAKEN_BACK = 10.0
"""Seconds for which a scheduler may take to forget what a worker could not write down."""

LOOKS = 5
"""Times that files are gathered which change while they are being packed."""

_UNWRITTEN = (
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM),
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS),
)
"""What a worker's system says that cannot write a file."""

_OWNER = uuid.uuid4().hex
_sent: weakref.WeakKeyDictionary[Any, _Sent] = weakref.WeakKeyDictionary()
_sending = threading.Lock()
_by_value: set[str] = set()
"""The modules that we let travel inside flows, and have not taken back."""
_needed: list[frozenset[str]] = []
"""Those that must travel so, for each flow run that goes on."""
_told: set[str] = set()


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is to be shipped for a flow, as it is on disk now."""

    tree: Tree
    names: tuple[str, ...]
    by_value: frozenset[str] = frozenset()
    """The modules that travel inside the flow."""
    reloaded: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    flow: Flow[..., Any] | None = None
    """For which it was gathered."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a client sent last, and to which scheduler: another one may take over its address."""

    scheduler: str = ""
    code: Code = field(default_factory=Code)
    digests: Mapping[str, str] = field(default_factory=dict)


class _Edited(Exception):
    """A file is not any more as it was gathered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What came of shipping: the code that a flow run uses, and what was done for it."""

    code: Code
    by_value: frozenset[str] = frozenset()
    """The modules that are not in it, and travel inside the flow."""
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


@contextlib.contextmanager
def travelling(modules: frozenset[str]) -> Iterator[None]:
    """Let modules travel inside a flow to its end, also if a subflow ships them meanwhile."""
    _needed.append(modules)
    try:
        yield
    finally:
        _needed.remove(modules)


def gather(flow: Flow[..., Any] | None = None) -> Gathered:
    """Read what is to be shipped, and bring the kernel's modules up to their files.

    Raises
    ------
    CodeError
        As for `ship`.
    """
    roots = [root_of(path) for path in declared()]
    found = find(flow, roots)
    reloaded = refresh(found.reached, found.space)
    if reloaded:
        found = find(flow, roots)
    # What was declared goes before what was found: it may hold the data beside a module.
    more = [
        root
        for name, rs in sorted(found.roots.items())
        if not any(_brings(given, name, rs) for given in roots)
        for root in rs
    ]
    tree = tree_of([*roots, *more])
    names = modules_in(tree)
    _travel_by_value(found, names)
    return Gathered(
        tree=tree,
        names=names,
        by_value=frozenset(found.by_value),
        reloaded=tuple(reloaded),
        gone=tuple(f"{name} ({path})" for name, path in found.gone.items()),
        flow=flow,
    )


def send(client: distributed.Client, gathered: Gathered) -> Shipped:
    """Send to a cluster's workers what they lack of it, the workers included that come later.

    Files that have changed since are gathered again.

    Raises
    ------
    CodeError, WaitTimeout, ProviderUnreachable
        The workers do not take it.
    """
    for _ in range(LOOKS):
        try:
            return _sent_as_gathered(client, gathered)
        except _Edited as edited:
            last = edited
            again = gather(gathered.flow)
            reloaded = dict.fromkeys((*gathered.reloaded, *again.reloaded))
            gathered = replace(again, reloaded=tuple(reloaded))
    raise CodeError(
        f"{last} changes all the time while it is being shipped; keep what is written by programs "
        "out of the folders of modules, or run again"
    )


def _sent_as_gathered(client: distributed.Client, gathered: Gathered) -> Shipped:
    store_here().home = _OWNER
    bundles = _bundles(gathered.tree.files)
    code = Code(
        id=gathered.tree.digest if gathered.tree.files else "",
        names=gathered.names,
        bundles=tuple(sorted(bundles)),
        owner=_OWNER,
    )
    digests = {place: file.digest for place, file in gathered.tree.files.items()}
    scheduler = str(client._scheduler_identity.get("id"))
    with _sending:
        former = _sent.get(client, _Sent())
        if former.scheduler != scheduler:
            former = _Sent()
        if not code.id or former.code == code:
            return Shipped(code=code, by_value=gathered.by_value, sentences=_news(gathered))
        # If it fails half-way, the scheduler is asked the next time what it has.
        _sent[client] = replace(former, code=Code())
        sent, workers = _send(client, code, bundles)
        _sent[client] = _Sent(scheduler, code, digests)
    changed = [p for p in sorted(sent) if former.digests.get(p) != digests[p]]
    size = sum(gathered.tree.files[p].size for p in changed)
    told = []
    if changed:
        told.append(
            f"Shipped {_count(len(changed), 'file')} ({readable(size)}) to "
            f"{_count(workers, 'worker')}: {_tops(changed)}"
        )
    return Shipped(
        code=code,
        by_value=gathered.by_value,
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
            with _taken_back_on_error(client, plugin.name):
                _within(deadline, client, partial(client.register_plugin, plugin))
            sent += files
    told = _within(deadline, client, partial(client.register_plugin, Current(code)))
    for name in answer["unused"]:
        _within(deadline, client, partial(client.unregister_worker_plugin, name))
    return sent, len(told)


@contextlib.contextmanager
def _taken_back_on_error(client: distributed.Client, name: str) -> Iterator[None]:
    """Let the scheduler forget what some worker did not take, or it would not come again."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            in_background(partial(client.unregister_worker_plugin, name)).result(TAKEN_BACK)
        raise


def _packed(files: Mapping[str, File]) -> bytes:
    contents: dict[str, bytes] = {}
    for place, file in files.items():
        try:
            content = file.read()
        except OSError as error:
            raise CodeError(
                f"{file.path} cannot be read any more ({error.strerror}); mend its permissions, or "
                "move it out of the folder"
            ) from error
        if content is None:
            raise _Edited(file.path)
        contents[place] = content
    return packed(contents)


def _within(deadline: Deadline, client: distributed.Client, call: Callable[[], Any]) -> Any:
    address = client.scheduler.address if client.scheduler else "the scheduler"
    try:
        return in_background(call).result(deadline.left)
    except TimeoutError as error:
        raise WaitTimeout(
            f"the workers at {address} did not take the code within {deadline.seconds:g} s; look "
            "at `daskenv logs`, or allow more with daskenv.sync.timeout"
        ) from error
    except OSError as error:
        if error.errno in _UNWRITTEN:
            raise CodeError(
                f"a worker cannot write the code into its folder ({error}); mend its permissions, "
                "make room, or name another with Dask's temporary-directory"
            ) from error
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


def _travel_by_value(found: Found, shipped: Iterable[str]) -> None:
    """Let travel inside the flow what no worker can import.

    What is shipped from now on is imported, unless a flow run that goes on was to do without.
    All else stays as it is: a flow whose module it is may run at this moment, and this one be its
    subflow.
    """
    wanted = {n for n in found.by_value if n in sys.modules}
    before = cloudpickle.list_registry_pickle_by_value()
    for name in wanted - before:
        cloudpickle.register_pickle_by_value(sys.modules[name])
        _by_value.add(name)
    for name in _by_value.difference(wanted, *_needed):
        if name.partition(".")[0] in shipped and name in sys.modules:
            _by_value.discard(name)
            if name in before:
                cloudpickle.unregister_pickle_by_value(sys.modules[name])


def _brings(given: Root, name: str, found: list[Root]) -> bool:
    """Tell whether what was declared holds a module that was found, where imports look for it."""
    if given.place:
        brought = is_module(given.place) or given.path.is_dir()
        return brought and given.place.partition(".")[0] == name
    folder = given.path.resolve()
    return all(root.path.resolve() == folder / root.place for root in found)


def _news(gathered: Gathered) -> tuple[str, ...]:
    """Say what was loaded again; and once, what was left out or is gone."""
    told = []
    if gathered.reloaded:
        told.append(f"Loaded again, as the files have changed: {', '.join(gathered.reloaded)}")
    for what, items in (
        ("Not shipped", gathered.tree.left_out),
        ("The files are gone, so the kernel's own copies travel", list(gathered.gone)),
    ):
        fresh = [item for item in dict.fromkeys(items) if item not in _told]
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
