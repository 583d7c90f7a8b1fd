"""What a piece of code imports, wherever in it: read from its bytecode, without running it."""

from __future__ import annotations

import dis
from types import CodeType
from typing import TYPE_CHECKING, NamedTuple

from daskenv_lab import sources
from daskenv_lab.errors import CodeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Import(NamedTuple):
    """One import statement: ``from <level dots><name> import <members>``."""

    name: str
    level: int
    members: tuple[str, ...]

    def targets(self, package: str) -> Iterator[str]:
        """List the modules that it may mean, for code in `package`; most members are none."""
        base = self.name
        if self.level:
            parts = package.split(".")
            kept = parts[: len(parts) - self.level + 1]
            if not all(kept) or not kept:
                return
            base = ".".join([*kept, self.name] if self.name else kept)
        yield base
        for member in self.members:
            if member != "*":
                yield f"{base}.{member}"


_by_digest: dict[str, tuple[Import, ...]] = {}


def imports_of(file: Path) -> tuple[Import, ...]:
    """List what a source file imports; one that has not changed is not read again.

    Raises
    ------
    CodeError
        It is no Python, and the line is named.
    """
    try:
        digest = sources.digest(file)
        if digest not in _by_digest:
            _by_digest[digest] = imports_in(compiled(file))
    except OSError as error:
        raise CodeError(
            f"the module {file} cannot be read ({error.strerror}); mend its permissions"
        ) from error
    return _by_digest[digest]


def compiled(file: Path) -> CodeType:
    """Compile a source file without running it.

    Raises
    ------
    CodeError
        It is no Python, and the line is named.
    """
    try:
        return compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except SyntaxError as error:
        at = f"line {error.lineno} of " if error.lineno else ""
        raise CodeError(
            f"{at}{file} is no Python ({error.msg}); mend it, nothing has been started"
        ) from error
    except ValueError as error:
        raise CodeError(f"{file} is no Python ({error}); mend it or leave it out") from error


def imports_in(code: CodeType) -> tuple[Import, ...]:
    """List what code imports, its functions and classes included."""
    return tuple(dict.fromkeys(_found(code)))


def _found(code: CodeType) -> Iterator[Import]:
    constants: list[object] = []
    for step in dis.get_instructions(code):
        # The compiler puts the level and the members right before the import.
        if step.opname == "IMPORT_NAME" and len(constants) >= 2:
            level, members = constants[-2:]
            if isinstance(level, int):
                named = tuple(str(m) for m in members) if isinstance(members, tuple) else ()
                yield Import(str(step.argval), level, named)
        if step.opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT")):
            constants.append(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _found(constant)
