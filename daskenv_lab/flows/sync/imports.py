"""What a piece of code imports, wherever in it: read from its bytecode, without running it."""

from __future__ import annotations

import dis
import inspect
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from daskenv_lab import sources
from daskenv_lab.errors import CodeError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from pathlib import Path


class Import(NamedTuple):
    """One import statement: ``from <level dots><name> import <members>``."""

    name: str
    level: int
    members: tuple[str, ...]
    later: bool = False
    """Whether a function does it when it is called, and not the module as it is loaded."""

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

    def taken(self, package: str, known: Container[str]) -> Iterator[str]:
        """List the modules whose content it takes, where `known` tells modules from the rest."""
        base, *members = list(self.targets(package)) or [""]
        if members:
            yield from (member if member in known else base for member in members)
            return
        yield base
        while not self.members and (base := base.rpartition(".")[0]):
            # Those above it can be used too; a package stands above its own modules anyway.
            if not f"{package}.".startswith(f"{base}."):
                yield base


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


def needed_by(name: str, file: Path, known: Container[str]) -> set[str]:
    """Name those of the `known` modules whose content a module takes as it is loaded.

    Raises
    ------
    CodeError
        It is no Python.
    """
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    needed = {
        module
        for one in imports_of(file)
        if not one.later
        for module in one.taken(package, known)
        if module in known
    }
    return needed - {name}


def codes_of(value: Any) -> Iterator[CodeType]:
    """List the code of a function, of a task or flow, or of a class's methods."""
    for member in [value, *vars(value).values()] if isinstance(value, type) else [value]:
        parts = [member]
        if isinstance(member, property):
            parts = [member.fget, member.fset, member.fdel]
        for part in parts:
            function = getattr(part, "fn", getattr(part, "__func__", part))
            code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", 0)
            if isinstance(code, CodeType):
                yield code


def _found(code: CodeType) -> Iterator[Import]:
    # The body of a class runs as the module is loaded.
    later = bool(code.co_flags & inspect.CO_OPTIMIZED)
    constants: list[object] = []
    for step in dis.get_instructions(code):
        # The compiler puts the level and the members right before the import.
        if step.opname == "IMPORT_NAME" and len(constants) >= 2:
            level, members = constants[-2:]
            if isinstance(level, int):
                named = tuple(str(m) for m in members) if isinstance(members, tuple) else ()
                yield Import(str(step.argval), level, named, later)
        if step.opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT")):
            constants.append(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            for one in _found(constant):
                yield one._replace(later=later or one.later)
