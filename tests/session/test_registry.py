"""Records of named clusters: written whole, private, and never lost."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask.config
import pytest

from daskenv_lab import DaskGatewayEnvironment, config, registry
from daskenv_lab.cluster import ClusterRef
from daskenv_lab.errors import ConfigError, StateError, WaitTimeout

ENVIRONMENT = DaskGatewayEnvironment("local", n_workers=2)
REF = ClusterRef(provider="local", id="8f3e", location="http://127.0.0.1:1")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a state folder of the test's own."""
    with dask.config.set({"daskenv.state-dir": str(tmp_path / "state")}):
        yield tmp_path / "state"


def test_a_record_comes_back_as_it_was_written(folder: Path) -> None:
    """What `write` stores, `read` gives, and `forget` removes."""
    record = registry.write(registry.new("dev", ENVIRONMENT), ref=REF, ready=True)
    assert registry.read("dev") == record
    assert registry.names() == ["dev"]
    registry.forget("dev")
    assert registry.read("dev") is None
    registry.forget("dev")


def test_records_are_private(folder: Path) -> None:
    """Only the user may read the state folder and its files."""
    registry.write(registry.new("dev", ENVIRONMENT))
    for path in (folder, folder / "clusters", folder / "clusters" / "dev.json"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": 0, "name": "dev"}', b'{"schema": 1}'],
)
def test_a_damaged_record_is_kept_aside(folder: Path, content: bytes) -> None:
    """A record that cannot be read frees its name, and its bytes stay, named in the warning."""
    registry.write(registry.new("dev", ENVIRONMENT))
    (folder / "clusters" / "dev.json").write_bytes(content)
    with pytest.warns(registry.DamagedRecordWarning, match="kept as .*dev.json.damaged-"):
        assert registry.read("dev") is None
    (kept,) = (folder / "clusters").glob("dev.json.damaged-*")
    assert kept.read_bytes() == content
    assert registry.names() == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".hidden", "-x", "x" * 64, "é", "a\n"])
def test_hostile_names_are_refused(folder: Path, name: str) -> None:
    """A name that could leave the folder or break a command line is one sentence."""
    with pytest.raises(ConfigError, match="cannot name a cluster"):
        registry.read(name)


def test_a_file_in_place_of_the_state_folder_is_one_sentence(tmp_path: Path) -> None:
    """A state folder that cannot be made names the way out."""
    (tmp_path / "state").write_text("")
    with (
        dask.config.set({"daskenv.state-dir": str(tmp_path / "state")}),
        pytest.raises(StateError, match="DASK_DASKENV__STATE_DIR"),
    ):
        registry.read("dev")


def test_a_full_disk_keeps_the_former_record() -> None:
    """Writing to a full disk raises one sentence."""
    with (
        dask.config.set({"daskenv.state-dir": "/dev/full/state"}),
        pytest.raises(StateError, match="cannot be used"),
    ):
        registry.write(registry.new("dev", ENVIRONMENT))


def test_an_interrupted_write_leaves_no_half_record(folder: Path) -> None:
    """A record that cannot be written down leaves the former one, and no temporary file."""
    before = registry.write(registry.new("dev", ENVIRONMENT))
    broken = registry.new("dev", DaskGatewayEnvironment("local", thing=object()))
    with pytest.raises(Exception, match="cannot be written down"):
        registry.write(broken)
    assert registry.read("dev") == before
    assert {p.name for p in (folder / "clusters").iterdir()} == {"dev.json"}


HOLD = """
import sys, time, dask.config
from daskenv_lab import registry
dask.config.set({"daskenv.state-dir": sys.argv[1]})
with registry.lock("dev", progress=print):
    print("taken", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process(folder: Path) -> None:
    """Another process's hold is waited for, runs into the limit, and ends when it is killed."""
    command = [sys.executable, "-c", HOLD, str(config.state_dir())]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        told: list[str] = []
        with (
            dask.config.set({"daskenv.timeouts.lock": "200 ms"}),
            pytest.raises(WaitTimeout, match="another process has worked on the cluster 'dev'"),
            registry.lock("dev", progress=told.append),
        ):
            pass
        assert told == ["Waiting for another process that works on 'dev'"]
    finally:
        holder.kill()
        holder.communicate(timeout=120)
    with registry.try_lock("dev", timeout=5) as held:
        assert held
