"""Which names of its module a definition uses, read from its source without running it."""

from __future__ import annotations

import ast
import symtable
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FUTURE = "from __future__ import annotations\n"

_INLINE = frozenset({"genexpr", "listcomp", "setcomp", "dictcomp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names that a definition needs in its module."""

    early: frozenset[str]
    """Read while it is being defined: by decorators, default values, bases, a class's body."""

    late: frozenset[str]
    """Read when it is called."""

    hints: frozenset[str]
    """Read from annotations, those written as text included."""

    chains: Mapping[str, frozenset[str]]
    """The dotted names that start with each name, such as ``os.path.join``."""

    @property
    def all(self) -> frozenset[str]:
        """All of them."""
        return self.early | self.late | self.hints


def names_in(block: str, *, future: bool = False) -> Names:
    r"""Read the names that a function's or class's source uses and does not make itself.

    Parameters
    ----------
    block : str
        One definition, with its decorators, that starts at the margin.
    future : bool
        Whether it stands under ``from __future__ import annotations``.

    Raises
    ------
    SyntaxError
        It is no Python.

    Examples
    --------
    >>> names = names_in("@task\ndef double(n=START):\n    return [f(i) for i in range(n)]\n")
    >>> sorted(names.early), sorted(names.late)
    (['START', 'task'], ['f', 'range'])
    """
    tree = ast.parse(block)
    table = symtable.symtable(FUTURE * future + block, "<source>", "exec")
    early = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    late: set[str] = set()
    for child in table.get_children():
        _read(child, early if _runs_at_once(child) else late, late)
    chains: dict[str, set[str]] = defaultdict(set)
    for dotted in _chains(tree):
        chains[dotted.partition(".")[0]].add(dotted)
    return Names(
        early=frozenset(early),
        late=frozenset(late),
        hints=frozenset(_hints(tree)),
        chains={name: frozenset(found) for name, found in chains.items()},
    )


def _read(table: symtable.SymbolTable, found: set[str], late: set[str]) -> None:
    found |= {s.get_name() for s in table.get_symbols() if s.is_global()}
    for child in table.get_children():
        _read(child, found if _runs_at_once(child) else late, late)


def _runs_at_once(table: symtable.SymbolTable) -> bool:
    return table.get_type() != "function" or table.get_name() in _INLINE


def _chains(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        parts: list[str] = []
        at: ast.AST = node
        while isinstance(at, ast.Attribute):
            parts.append(at.attr)
            at = at.value
        if parts and isinstance(at, ast.Name):
            yield ".".join([at.id, *reversed(parts)])


def _hints(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.arg(annotation=ast.expr() as hint):
                yield from _named([hint])
            case ast.FunctionDef(returns=ast.expr() as hint):
                yield from _named([hint])
            case ast.AsyncFunctionDef(returns=ast.expr() as hint):
                yield from _named([hint])
            case ast.AnnAssign(annotation=hint):
                yield from _named([hint])


def _named(hints: Iterable[ast.AST]) -> Iterator[str]:
    for hint in hints:
        match hint:
            case ast.Name(id=name):
                yield name
            case ast.Constant(value=str() as said):
                yield from _named(_parsed(said))
            case ast.Subscript(value=ast.Name(id="Literal") | ast.Attribute(attr="Literal")):
                # What stands in it are values.
                yield from _named([hint.value])
            case _:
                yield from _named(ast.iter_child_nodes(hint))


def _parsed(hint: str) -> list[ast.AST]:
    try:
        return [ast.parse(hint.strip(), mode="eval").body]
    except (SyntaxError, ValueError):
        return []
