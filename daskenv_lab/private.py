"""Files of one user's own: written whole or not at all, and readable by nobody else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Put a file in its place in one step.

    Raises
    ------
    OSError
        It cannot be written; a former file stays as it is.

    Examples
    --------
    >>> write_private(Path("record.json"), b"{}")  # doctest: +SKIP
    """
    # mkstemp makes files that only their owner may read.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
