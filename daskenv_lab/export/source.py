"""Functions, classes, flows and tasks as source that stands in a module of its own.

Whatever they use is taken along: functions, classes and constants of the same namespace as
source, and what a module offers as an import. Anything else is refused by its name.
"""

from __future__ import annotations

import builtins
import itertools
import os.path
import sys
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from daskenv_lab.environments.codec import encode
from daskenv_lab.environments.secret import conceal, secrets_in
from daskenv_lab.errors import ExportError
from daskenv_lab.export.blocks import Block, block_of, defined
from daskenv_lab.export.code import Writer, has_lone_tuple
from daskenv_lab.export.imports import Imports, is_found
from daskenv_lab.export.secrets import refuse_open_secrets

_OF_EACH_MODULE = frozenset(
    {"__name__", "__file__", "__doc__", "__package__", "__spec__", "__loader__", "__builtins__"}
)
_PLAIN = (type(None), bool, int, float, str, bytes)
_GROUPS = (list, tuple, set, frozenset)


@dataclass(frozen=True)
class Source:
    """The parts of a module that holds some functions and classes."""

    imports: tuple[str, ...]
    """Import statements, in the order of isort."""

    constants: tuple[str, ...]
    """Assignments such as ``LIMIT = 3``."""

    definitions: str
    """The functions and classes, in an order in which Python can run them."""

    names: frozenset[str] = frozenset()
    """The names of the constants and definitions."""


def source_of(*objects: Any) -> Source:
    """Give the source of functions, classes, flows or tasks, with all that they use.

    Flows and tasks are those that Prefect's decorators make. The objects themselves are given by
    source wherever they are; what they use from other modules is imported.

    Parameters
    ----------
    *objects
        Functions, classes, or what has a function as ``fn``.

    Raises
    ------
    ExportError
        One of them, or something that they use, has no source: a lambda, a function that uses
        variables of another one, an open connection, a session.

    Examples
    --------
    >>> import calendar
    >>> print(source_of(calendar.isleap).definitions.splitlines()[0])
    def isleap(year):
    """
    search = _Search()
    for value in objects:
        search.define(value, name_of(value))
    return search.source()


def name_of(value: Any) -> str:
    """Give the name under which a function, class, flow or task is defined.

    Raises
    ------
    ExportError
        It is something else.
    """
    inner = defined(value)
    if inner is None:
        raise ExportError(
            f"{value!r:.80} is neither a function nor a class, and has no source; write a function "
            "at the top level of the notebook or module that calls it"
        )
    return inner.__name__


class _Search:
    """Goes from name to name, and keeps what each one stands for."""

    def __init__(self) -> None:
        self._imports = Imports()
        self._blocks: dict[str, Block] = {}
        self._others: dict[str, str] = {}
        """Second names of what is defined."""
        self._constants: dict[str, str] = {}
        self._known: dict[str, Any] = {}

    def define(self, value: Any, name: str) -> None:
        """Take a function or class along by its source, and then what it uses."""
        inner = defined(value)
        assert inner is not None  # noqa: S101 - for the type checker
        block = block_of(inner)
        if value is not inner and not block.decorated:
            raise ExportError(
                f"{name!r} was made of the function {block.name!r} by a call, so that its source "
                f"is not all of it; write the decorator above 'def {block.name}'"
            )
        stands = block.namespace.get(block.name)
        if value is not inner and stands is not value and defined(stands) is inner:
            raise ExportError(
                f"{name!r} was changed by a call such as with_options, so that its source is not "
                f"all of it; give the arguments to the decorator above 'def {block.name}'"
            )
        if name != block.name:
            if block.namespace.get(block.name) is not value:
                raise ExportError(
                    f"{name!r} was made of {block.name!r}, so that the source is not all of it; "
                    f"define {name!r} itself, with its decorator"
                )
            self._others[name] = block.name
        if self._is_new(block.name, value):
            self._blocks[block.name] = block
            if block.future:
                self._imports.add("__future__", "annotations", "annotations")
            for used in sorted(block.names.all - {block.name}):
                self._use(used, block)

    def source(self) -> Source:
        """Put together what was found."""
        parts = [self._blocks[name].source for name in _ordered(self._blocks)]
        if self._others:
            parts.append("".join(f"{new} = {old}\n" for new, old in sorted(self._others.items())))
        return Source(
            imports=tuple(self._imports.statements()),
            constants=tuple(self._constants[name] for name in sorted(self._constants)),
            definitions="\n\n".join(parts),
            names=frozenset({*self._blocks, *self._others, *self._constants}),
        )

    def _is_new(self, name: str, value: Any) -> bool:
        """Note what a name stands for, and refuse that it stands for two things."""
        if name not in self._known:
            self._known[name] = value
            return True
        known, inner = self._known[name], defined(value)
        if known is not value and (inner is None or defined(known) is not inner):
            raise ExportError(
                f"the name {name!r} stands for two things in the modules that are exported "
                "together; rename one of them"
            )
        return False

    def _use(self, name: str, block: Block) -> None:
        if name in _OF_EACH_MODULE:
            return
        if name in block.namespace:
            value = block.namespace[name]
        elif hasattr(builtins, name):
            value = getattr(builtins, name)
            if not str(getattr(value, "__module__", "")).startswith("IPython"):
                return
        elif name in block.names.hints:
            return  # It is there for type checkers alone.
        else:
            raise ExportError(
                f"{block.name!r} uses {name!r}, which is not defined; define it, and export again"
            )
        self._take(name, value, block)

    def _take(self, name: str, value: Any, block: Block) -> None:
        """Take along what a name stands for in the namespace of `block`."""
        _refuse_session(name, value, block)
        if isinstance(value, ModuleType):
            self._module(name, value, block)
        elif is_constant(value):
            assignment = _assignment(name, value, block)
            if self._constants.get(name) != assignment and self._is_new(name, value):
                self._constants[name] = assignment
        elif offered := _offered(name, value, block.namespace):
            if self._is_new(name, value):
                self._imports.add(*offered, name)
        elif defined(value) is not None:
            self.define(value, name)
        else:
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            raise ExportError(
                f"{block.name!r} uses the global {name!r}, a {kind}, which has no source and is "
                f"no plain constant; make it inside {block.name!r}, or take it as a parameter"
            )

    def _module(self, name: str, module: ModuleType, block: Block) -> None:
        dotted = "os.path" if module is os.path else module.__name__
        if not is_found(dotted):
            raise ExportError(
                f"{block.name!r} uses the module {dotted!r} as {name!r}, which another process "
                "does not find; write it into a file beside the export, or install it"
            )
        self._is_new(name, module)
        parent, _, last = dotted.rpartition(".")
        if parent and name == last:
            self._imports.add(parent, last, name)
            return
        # Importing a module in a package under its whole name gives the package too.
        inside = {_submodule(c) for c in block.names.chains.get(name, ())} if name == dotted else ()
        for inner in sorted(filter(None, inside)) or [dotted]:
            self._imports.add(inner, "", name if inner == dotted else inner)


def is_constant(value: Any) -> bool:
    """Tell whether a value can be written as a plain literal.

    Examples
    --------
    >>> is_constant({"a": [1, None]}), is_constant(open)
    (True, False)
    """
    if type(value) in _PLAIN:
        return True
    if type(value) in _GROUPS:
        return all(is_constant(item) for item in value)
    return type(value) is dict and all(is_constant(i) for pair in value.items() for i in pair)


def _assignment(name: str, value: Any, block: Block) -> str:
    if any(secrets_in(conceal(value, path=(name,)))):
        raise ExportError(
            f"{block.name!r} uses the global {name!r}, which looks like a secret, and an export "
            f"holds none; read it from a process variable inside {block.name!r}"
        )
    written = encode(value, where=name)
    refuse_open_secrets({name: written})
    made = Writer(Imports(), ascii_only=has_lone_tuple(written)).value(written)
    return "\n".join(made.lines(0, f"{name} = ", ""))


def _refuse_session(name: str, value: Any, block: Block) -> None:
    """Refuse what ties a function to the cluster of this notebook."""
    kind = type(value).__qualname__
    ours = {cls.__module__.partition(".")[0] for cls in type(value).__mro__} & {"daskenv_lab"}
    if ours and not isinstance(value, type | FunctionType):
        raise ExportError(
            f"{block.name!r} uses {name!r}, a {kind} of this notebook, which nobody has in "
            "production; leave it out (such as task_runner=...), as the environment gives the flow "
            "its cluster there"
        )


def _offered(name: str, value: Any, namespace: dict[str, Any]) -> tuple[str, str] | None:
    """Find another module that offers a value, the outermost that lists it first."""
    # Of an object such as `datetime.UTC`, only its class says where it may be from.
    homes = dict.fromkeys((getattr(value, "__module__", None), type(value).__module__))
    said = [getattr(value, key, None) for key in ("__qualname__", "__name__", "_name")]
    names = [word for word in (*said, name) if isinstance(word, str) and word.isidentifier()]
    # What is made in `_functools` is offered by `functools`.
    public = [home.removeprefix("_") for home in homes if isinstance(home, str)]
    for home in dict.fromkeys((*public, *homes)):
        if not isinstance(home, str) or _attribute(home, "__dict__") is namespace:
            continue
        packages = list(itertools.accumulate(home.split("."), "{}.{}".format))
        for known_as, module in itertools.product(names, packages):
            listed = module == home or known_as in (_attribute(module, "__all__") or ())
            if listed and _attribute(module, known_as) is value and is_found(module):
                return module, known_as
    return None


def _attribute(module: str, name: str) -> Any:
    """Look something up in a loaded module, which may import it only then."""
    try:
        return getattr(sys.modules.get(module), name, None)
    except ImportError:
        return None


def _submodule(chain: str) -> str | None:
    """Give the longest start of a dotted name that is a module inside a package."""
    parts = chain.split(".")
    for n in range(len(parts), 1, -1):
        dotted = ".".join(parts[:n])
        if getattr(sys.modules.get(dotted), "__name__", None) == dotted:
            return dotted
    return None


def _ordered(blocks: dict[str, Block]) -> list[str]:
    """Put definitions after those that Python needs in order to run them, if it can be."""
    uses = {name: block.names.all & {*blocks} - {name} for name, block in blocks.items()}
    needs = {
        name: {m for n in block.names.early & {*uses} for m in _reached(n, uses)} - {name}
        for name, block in blocks.items()
    }
    placed: list[str] = []
    while left := [name for name in blocks if name not in placed]:
        # The first one with nothing missing; else one that Python can run, or at worst any.
        placed.append(
            min(left, key=lambda n: (len(needs[n] - {*placed}), len(uses[n] - {*placed})))
        )
    return placed


def _reached(name: str, uses: dict[str, Any]) -> set[str]:
    """Give a name, and all that it uses in turn."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen.add(at)
            waiting += uses[at]
    return seen
