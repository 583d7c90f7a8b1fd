"""The import lines of a module that is being written."""

from __future__ import annotations

import importlib.util
import keyword
import sys
import unicodedata
from collections import defaultdict

from daskenv_lab.errors import ExportError
from daskenv_lab.export.layout import WIDTH, width

TAKEN = frozenset({"environment", "float", "frozenset", "set", "timedelta", "Secret"})
"""Names that the module uses for itself."""


class Imports:
    """Names that were asked for, each with the module that offers it."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}

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
            used = {*self._names.values(), *(() if ours else TAKEN)}
            known_as, number = name, 2
            while known_as in used:
                known_as, number = f"{name}_{number}", number + 1
            self._names[key] = known_as
        return self._names[key]

    def lines(self) -> list[str]:
        """Give the import lines, the standard library's first."""
        modules: dict[str, list[str]] = defaultdict(list)
        for (module, name), known_as in sorted(self._names.items()):
            modules[module].append(name if name == known_as else f"{name} as {known_as}")
        standard = [m for m in modules if m.partition(".")[0] in sys.stdlib_module_names]
        others = [m for m in modules if m not in standard]
        blocks = [
            [line for m in block for line in _line(m, modules[m])] for block in (standard, others)
        ]
        first, second = blocks
        return [*first, *([""] if first and second else []), *second]


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
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise ExportError(
            f"{where} is {path!r}, and another process finds no module {module!r}; "
            "move it to a module that is installed or lies beside the export"
        )
    first, dot, rest = qualname.partition(".")
    return module, first, f"{dot}{rest}"


def plain_name(word: str) -> bool:
    """Tell whether a word means itself as a name in code."""
    return (
        word.isidentifier()
        and not keyword.iskeyword(word)
        and word != "__debug__"
        # Python reads names in this normal form, and would find another one.
        and unicodedata.normalize("NFKC", word) == word
    )


def _line(module: str, names: list[str]) -> list[str]:
    line = f"from {module} import {', '.join(names)}"
    if width(line) <= WIDTH:
        return [line]
    return [f"from {module} import (", *(f"    {name}," for name in names), ")"]
