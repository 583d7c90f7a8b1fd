"""The files that travel: what is in a module, package or folder, and what never leaves it."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.machinery
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from daskenv_lab import config, sources
from daskenv_lab.errors import CodeError
from daskenv_lab.flows.sync.shadows import refuse_shadow, shadowed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SECRETS = (
    *(".env", ".env.*", "*.env", ".netrc", "_netrc", ".pgpass", ".htpasswd"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*.p8", "kubeconfig*"),
    *("credentials", "*credential*.*", "secret.*", "secrets.*", "token.json", "token.pickle"),
    *("client_secret*.json", "service-account*.json", "service_account*.json"),
)
"""Names of files that hold secrets; modules may have them, since these hold code."""

_MODULES = (*importlib.machinery.EXTENSION_SUFFIXES, ".py")

_CLUTTER_FOLDERS = ("__pycache__", "node_modules", "venv", "*.egg-info", "dask-scratch-space")
# A notebook is saved after each look at it, and no worker reads it.
_CLUTTER_FILES = ("*.pyc", "*.pyo", "*.ipynb", "*~", "#*#")


@dataclass(frozen=True, slots=True)
class Root:
    """A file, or a folder that is taken whole, and where it is put on a worker."""

    path: Path
    place: str
    """A path there; "" for a folder whose content takes the first place itself."""
    bare: bool = False
    """Whether only the code is taken: a folder without ``__init__.py`` may hold all data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file that travels."""

    path: Path
    digest: str
    size: int

    def read(self) -> bytes | None:
        """Give what was gathered, or None if the file has changed since, or is gone.

        Raises
        ------
        OSError
            It cannot be read.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        found = hashlib.blake2b(content, digest_size=16).hexdigest()
        return content if found == self.digest else None


@dataclass(slots=True)
class Tree:
    """Files by the places that they take on a worker, and what was left out."""

    files: dict[str, File] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Tell all the contents in short."""
        return digest_of(self.files)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files.values())

    def add(self, path: Path, place: str, *, inside: Path, limit: int) -> None:
        """Take in one file, unless it may not leave `inside`.

        Raises
        ------
        CodeError
            Another file takes the same place, or it cannot be read.
        """
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            self.left_out.append(f"{path} (a link that leads out of its folder)")
            return
        try:
            size = path.stat().st_size
            if size > limit:
                self.left_out.append(f"{path} ({readable(size)}, over daskenv.sync.file-limit)")
                return
            file = File(path=path, digest=sources.digest(path), size=size)
        except FileNotFoundError:
            return  # An editor's file that is gone again.
        except OSError as error:
            raise CodeError(
                f"the file {path} cannot be read ({error.strerror}); mend its permissions, or move "
                "it out of the folder"
            ) from error
        other = self.files.setdefault(place, file)
        if other.digest != file.digest:
            raise CodeError(
                f"both {other.path} and {path} would be {place} on the workers; rename one, or "
                "take one back with `daskenv sync --remove PATH`"
            )


def tree_of(roots: Iterable[Root]) -> Tree:
    """Read what travels of files and folders.

    Raises
    ------
    CodeError
        It is more than ``daskenv.sync.total-limit``, or a file cannot be read.
    """
    tree = Tree()
    limit, total = config.size("sync.file-limit"), config.size("sync.total-limit")
    for root in roots:
        folder = root.path.is_dir()
        # A single file may be a link to wherever it is kept; what is in a folder may not lead out.
        inside = root.path.resolve()
        for path in _walk(root, tree.left_out) if folder else [root.path]:
            at = path.relative_to(root.path).as_posix() if folder else ""
            place = "/".join(part for part in (root.place, at) if part)
            tree.add(path, place, inside=inside, limit=limit)
        if (size := tree.size) > total:
            raise CodeError(
                f"with {root.path} the code is {readable(size)}, over the {readable(total)} of "
                "daskenv.sync.total-limit; keep data elsewhere, or raise the limit"
            )
    return tree


def digest_of(files: Mapping[str, File]) -> str:
    """Tell places and contents in short."""
    told = "\n".join(f"{place}\0{files[place].digest}" for place in sorted(files))
    return hashlib.blake2b(told.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def modules_in(tree: Tree) -> tuple[str, ...]:
    """Name the modules and packages that files make when they are imported, outermost parts only.

    Raises
    ------
    CodeError
        One of them has a name that would break the workers.
    """
    whole: dict[str, Path] = {}
    folders: set[str] = set()
    for place, file in tree.files.items():
        top, _, inner = place.partition("/")
        if not is_module(place) or not sources.is_own(_stem(top)):
            continue
        if not inner:
            whole[_stem(top)] = file.path
        elif _stem(inner) == "__init__":
            whole[top] = file.path.parent
        else:
            folders.add(top)
    for name, path in whole.items():
        refuse_shadow(name, path)
    # Python takes an installed package rather than a mere folder of that name.
    names = whole.keys() | {name for name in folders - whole.keys() if not shadowed(name)}
    return tuple(sorted(name for name in names if name.isidentifier()))


def is_module(name: str) -> bool:
    """Tell by its name whether a file is a module that Python imports.

    Examples
    --------
    >>> is_module("helpers.py"), is_module("prefect.yaml")
    (True, False)
    """
    return name.endswith(_MODULES)


def is_secret(path: Path) -> bool:
    """Tell by its name, and by that of what a link leads to, whether a file holds secrets."""
    names = {path.name}
    if path.is_symlink() and path.exists():
        names.add(path.resolve().name)
    return any(not is_module(name) and _named(name, SECRETS) for name in names)


def readable(size: int) -> str:
    """Say a number of bytes.

    Examples
    --------
    >>> readable(900), readable(12_345), readable(52_000_000)
    ('900 bytes', '12 kB', '52 MB')
    """
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1000:.0f} kB" if size < 1_000_000 else f"{size / 1_000_000:.0f} MB"


def _walk(root: Root, left_out: list[str]) -> Iterator[Path]:
    """Go through the files of a folder in order, without what is never shipped."""
    inside = root.path.resolve()
    packages: set[Path] = set()
    for folder, folders, names in os.walk(root.path, followlinks=True):
        here = Path(folder)
        if "__init__.py" in names or here.parent in packages:
            packages.add(here)
        folders[:] = sorted(f for f in folders if _entered(here / f, inside, left_out))
        for name in sorted(names):
            path = here / name
            if root.bare and here not in packages and not is_module(name):
                continue
            if is_secret(path):
                left_out.append(f"{path} (it looks like a secret)")
            elif not _is_text(name):
                left_out.append(f"{str(path)!r} (its name is no text)")
            elif not name.startswith(".") and not _named(name, _CLUTTER_FILES) and path.is_file():
                yield path


def _entered(folder: Path, inside: Path, left_out: list[str]) -> bool:
    if folder.name.startswith(".") or _named(folder.name, _CLUTTER_FOLDERS):
        return False
    if not _is_text(folder.name):
        left_out.append(f"{str(folder)!r} (its name is no text)")
        return False
    if (folder / "pyvenv.cfg").exists():
        return False
    if not folder.is_symlink():
        return True
    leads_to = folder.resolve()
    if not leads_to.is_relative_to(inside):
        left_out.append(f"{folder} (a link that leads out of its folder)")
        return False
    # One that leads to a folder above it would never end.
    return not folder.parent.resolve().is_relative_to(leads_to)


def _stem(name: str) -> str:
    """Give a module's name without its file's suffix."""
    return next((name.removesuffix(s) for s in _MODULES if name.endswith(s)), name)


def _is_text(name: str) -> bool:
    """Tell whether a file's name can be written as text; on Linux it may be any bytes."""
    return name.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in name)


def _named(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)
