"""The import lines of a module that is being written."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import keyword
import sys
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from daskenv_lab.environments.codec import importable_path
from daskenv_lab.errors import ExportError
from daskenv_lab.export.layout import WIDTH, width

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TAKEN = frozenset({"environment", "float", "frozenset", "set", "timedelta", "Secret"})
"""Names that the module uses for itself."""


class Import(NamedTuple):
    """One name that a module imports."""

    module: str
    name: str
    """Empty where the module itself is imported."""

    known_as: str
    """For a module without another name, its own dotted one."""


class Imports:
    """Names that were asked for, each with the module that offers it.

    Parameters
    ----------
    statements : iterable of str
        Import statements that the module holds anyhow.
    taken : iterable of str
        Names that mean something else in the module.
    """

    def __init__(self, statements: Iterable[str] = (), taken: Iterable[str] = ()) -> None:
        self._all: set[Import] = {one for line in statements for one in _read(line)}
        self._names = {(i.module, i.name): i.known_as for i in sorted(self._all) if i.name}
        self._taken = self.bound.union(taken)

    def name(self, module: str, name: str) -> str:
        """Ask for a name, and learn what it is called in the module that is written.

        Examples
        --------
        >>> imports = Imports()
        >>> imports.name("etl.hooks", "notify"), imports.name("etl.other", "notify")
        ('notify', 'notify_2')
        """
        key = (module, name)
        if key not in self._names:
            ours = module == "daskenv_lab" or key == ("datetime", "timedelta")
            used = {*self._names.values(), *self._taken, *(() if ours else TAKEN)}
            known_as, number = name, 2
            while known_as in used:
                known_as, number = f"{name}_{number}", number + 1
            self._names[key] = known_as
            self._all.add(Import(module, name, known_as))
        return self._names[key]

    def add(self, module: str, name: str, known_as: str) -> None:
        """Import something under the name that it has already."""
        self._all.add(Import(module, name, known_as))

    @property
    def bound(self) -> frozenset[str]:
        """The names that mean something in the module by its import lines."""
        return frozenset(one.known_as.partition(".")[0] for one in self._all)

    def lines(self) -> list[str]:
        """Give the import lines: of the language, the standard library, and others."""
        lines: list[str] = []
        for _, block in itertools.groupby(self.statements(), _section):
            lines += [*([""] if lines else []), *(line for s in block for line in s.splitlines())]
        return lines

    def statements(self) -> list[str]:
        """Give the import statements in the order of isort."""
        whole = sorted(one for one in self._all if not one.name)
        parts: dict[str, list[Import]] = defaultdict(list)
        for one in sorted(self._all, key=_rank):
            if one.name:
                parts[one.module].append(one)
        made = [f"import {_said(one.module, one.known_as)}" for one in whole]
        made += [_from(module, names) for module, names in parts.items()]
        return sorted(made, key=_section)


def importable(path: str, *, where: str) -> tuple[str, str, str]:
    """Split ``module:qualname`` into a module, the name to import from it, and the rest.

    Raises
    ------
    ExportError
        Nothing could be imported by that path in another process.
    """
    module, _, qualname = path.partition(":")
    if not all(plain_name(part) for part in (*module.split("."), *qualname.split("."))):
        raise ExportError(
            f"{where} is {path!r}, which an import line cannot name; "
            "move it to the top level of a module with a plain name"
        )
    if not is_found(module):
        raise ExportError(
            f"{where} is {path!r}, and another process finds no module {module!r}; "
            "move it to a module that is installed or lies beside the export"
        )
    first, dot, rest = qualname.partition(".")
    return module, first, f"{dot}{rest}"


def is_found(module: str) -> bool:
    """Tell whether another process would find a module."""
    if module == "__main__":
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def offered(value: Any) -> bool:
    """Tell whether another process could import a function or class by its path."""
    path = importable_path(value)
    return path is not None and is_found(path.partition(":")[0])


def plain_name(word: str) -> bool:
    """Tell whether a word means itself as a name in code."""
    return (
        word.isidentifier()
        and not keyword.iskeyword(word)
        and word != "__debug__"
        # Python reads names in this normal form, and would find another one.
        and unicodedata.normalize("NFKC", word) == word
    )


def _read(statement: str) -> Iterator[Import]:
    for node in ast.parse(statement).body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", alias.asname or alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield Import(node.module, alias.name, alias.asname or alias.name)


def _rank(one: Import) -> tuple[str, int, str, str]:
    """Sort constants before classes before the rest, as isort does."""
    kind = 0 if one.name.isupper() and len(one.name) > 1 else 1 if one.name[:1].isupper() else 2
    return (one.module, kind, one.name, one.known_as)


def _section(statement: str) -> int:
    first = statement.split()[1].partition(".")[0]
    return 0 if first == "__future__" else 1 if first in sys.stdlib_module_names else 2


def _said(name: str, known_as: str) -> str:
    return name if name == known_as else f"{name} as {known_as}"


def _from(module: str, names: list[Import]) -> str:
    said = [_said(one.name, one.known_as) for one in names]
    line = f"from {module} import {', '.join(said)}"
    if width(line) <= WIDTH:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in said), ")"])
