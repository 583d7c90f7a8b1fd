"""What an export would write, without writing it where somebody keeps files."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from daskenv_lab.export import DEFAULT_NAMES
from daskenv_lab.view.call import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview(Call):
    """An export into a folder that is gone afterwards; gives the text.

    Examples
    --------
    >>> preview("dev", "json").code
    "daskenv_lab.connect('dev').export('environment.json', format='json')"
    """

    def make(self) -> str:
        """Give what the file would hold.

        Raises
        ------
        ExportError
            A setting cannot be written down.
        """
        (name,) = self.positional
        with tempfile.TemporaryDirectory(prefix="daskenv-preview-") as folder:
            call = Call(
                what=self.what,
                on=self.on,
                positional=(str(Path(folder) / Path(name).name),),
                arguments={**self.arguments, "allow_missing": True},
            )
            written: Path = call.make()
            return written.read_text(encoding="utf-8")


def preview(name: str, format: str, **further: str) -> Preview:  # noqa: A002 - as `Session.export`
    """Give the call that previews a session's export in a format, with what that needs besides."""
    return Preview(
        what="export",
        on=name,
        positional=(DEFAULT_NAMES[format],),
        arguments={"format": format, **further},
    )
