"""An export never replaces what somebody wrote by hand."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daskenv_lab.environments import DaskGatewayEnvironment
from daskenv_lab.errors import ExportError
from daskenv_lab.export import Request, write_environment

ENVIRONMENT = DaskGatewayEnvironment("local", n_workers=2)


def _write(path: Path | str, environment: Any = ENVIRONMENT, *, overwrite: bool = False) -> Path:
    request = Request(source="here", when=datetime.now(UTC))
    return write_environment(environment, path, request, overwrite=overwrite)


def test_an_export_replaces_an_export(tmp_path: Path) -> None:
    """Exporting again over an untouched export needs no permission, and leaves no other file."""
    path = _write(tmp_path / "environment.py")
    path.chmod(0o640)
    assert _write(path, DaskGatewayEnvironment("local", n_workers=5)) == path
    assert "n_workers=5" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["environment.py"]


@pytest.mark.parametrize("edit", ["# mine\n", None])
def test_what_somebody_wrote_stays(tmp_path: Path, edit: str | None) -> None:
    """A file of somebody else, or an export edited since, is replaced only when told so."""
    path = tmp_path / "environment.py"
    if edit is None:
        path.write_text("environment = 'precious'\n")
    else:
        _write(path)
        path.write_text(path.read_text() + edit)
    before = path.read_text()
    with pytest.raises(ExportError, match=r"not an unedited export.*--overwrite"):
        _write(path)
    assert path.read_text() == before
    _write(path, overwrite=True)
    assert "DaskGatewayEnvironment" in path.read_text()


def test_a_file_that_is_no_text_stays(tmp_path: Path) -> None:
    """Bytes that are no text are somebody else's."""
    path = tmp_path / "environment.py"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExportError, match="left as it is"):
        _write(path)


def test_a_link_is_followed(tmp_path: Path) -> None:
    """Writing to a link writes the file that it points to."""
    real = _write(tmp_path / "real.py")
    link = tmp_path / "link.py"
    link.symlink_to(real)
    assert _write(link, DaskGatewayEnvironment("local", n_workers=7)) == real
    assert link.is_symlink()
    assert "n_workers=7" in real.read_text()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["missing/environment.py", "folder.py", "a\0b.py", "\ud800.py"])
def test_a_path_that_cannot_be_written_is_told(tmp_path: Path, name: str, overwrite: bool) -> None:
    """A missing folder, a folder in the file's place, or an impossible name is one sentence."""
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(ExportError, match=r"cannot be written|is not an unedited export"):
        _write(tmp_path / name, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.py"]


def test_a_name_without_py_is_told(tmp_path: Path) -> None:
    """A file that could not be imported is refused, with the name it should have."""
    with pytest.raises(ExportError, match=r"write '.*environment\.py' instead"):
        _write(tmp_path / "environment")
