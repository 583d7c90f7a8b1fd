"""Shipping the user's own modules to workers: what arrives, when, and whose it is."""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from prefect import Flow, flow

from daskenv_lab import config
from daskenv_lab.errors import CodeError
from daskenv_lab.flows.sync import Code, declare, gather, send, ship, withdraw

Write = Callable[[dict[str, str]], None]
OnWorker = Callable[..., Any]

MODULE = "def value():\n    return {}\n"


def _flow(source: str) -> Flow[..., Any]:
    """Make a flow as a notebook's cell would."""
    space: dict[str, Any] = {"flow": flow, "__name__": "__main__"}
    exec(f"@flow\ndef etl():\n{source}", space)
    made = space["etl"]
    assert isinstance(made, Flow)
    return made


def test_imports_of_every_kind_arrive(
    client: Client, folder: Path, tree: Write, on_worker: OnWorker
) -> None:
    """Lazy, relative, namespaced and circular imports work on workers, and so do data files."""
    tree(
        {
            "top.py": "import pack.deep.inner as inner\n",
            "pack/__init__.py": "",
            "pack/deep/__init__.py": "",
            "pack/deep/inner.py": "def read():\n    from .. import lazy\n    return lazy.read()\n",
            "pack/lazy.py": "from pathlib import Path\nimport circle\n"
            "def read():\n    return Path(__file__).with_name('words.txt').read_text()\n",
            "pack/words.txt": "größe",
            "pack/.env": "SECRET=1",
            "circle.py": "import pack.lazy\n",
            "spread/one.py": "ONE = 1\n",
            "spread/large.csv": "1,2\n",
            "ünï.py": "NAME = 'unicode'\n",
            "unused.py": "def broken(:\n",
        }
    )
    shipped = ship(
        client, _flow("    import top, ünï\n    def later():\n        import spread.one")
    )
    assert set(shipped.code.names) == {"top", "pack", "circle", "spread", "ünï"}
    assert shipped.workers == 2
    said, left_out = shipped.sentences
    assert said.startswith("Shipped 9 files (")
    assert "to 2 workers" in said
    assert "pack/.env (it looks like a secret)" in left_out
    for worker in client.scheduler_info()["workers"]:
        read = "(__import__('top').inner.read(), __import__('ünï').NAME)"
        assert on_worker(shipped.code, read, workers=[worker]) == ("größe", "unicode")
    assert on_worker(shipped.code, "__import__('spread.one').one.ONE") == 1
    assert ship(client, _flow("    import top, ünï, spread.one")).sentences == ()


def test_edits_are_used_without_restarts(client: Client, tree: Write, on_worker: OnWorker) -> None:
    """Ten edits within a second, all of one size, each reach the kernel and the workers."""
    tree({"edited.py": MODULE.format(0)})
    edited: Any = importlib.import_module("edited")
    value = edited.value
    etl = _flow("    import edited")
    assert ship(client, etl).files == ("edited.py",)
    for number in range(1, 10):
        tree({"edited.py": MODULE.format(number)})
        shipped = ship(client, etl)
        assert shipped.files == ("edited.py",)
        assert "Loaded again, as the files have changed: edited" in shipped.sentences
        assert (value(), edited.value()) == (number, number)
        assert on_worker(shipped.code, "__import__('edited').value()") == number


def test_two_versions_at_once_stay_apart(
    plain: LocalCluster, client: Client, tree: Write, on_worker: OnWorker
) -> None:
    """Calls of two notebooks with other versions of a module each get their own, and its state."""
    tree({"shared.py": "count = 0\n" + MODULE.format("'old'")})
    old = ship(client, _flow("    import shared")).code
    tree({"shared.py": "count = 0\n" + MODULE.format("'new'")})
    with Client(plain.scheduler_address, set_as_default=False) as other:
        new = ship(other, _flow("    import shared")).code

        def call(code: Any) -> Any:
            from distributed import secede

            with code.entered():
                import shared

                secede()  # Other calls may begin in this process.
                time.sleep(0.05)
                again = importlib.import_module("shared")
                again.count += 1
                return shared is again, again.value()

        call.__module__ = "__main__"
        futures = [
            c.submit(call, k, pure=False)
            for _ in range(10)
            for c, k in ((client, old), (other, new))
        ]
        told = [f.result(timeout=120) for f in futures]
        assert told == [(True, "old"), (True, "new")] * 10
    counted = [
        on_worker(old, "__import__('shared').count", workers=[w])
        for w in client.scheduler_info()["workers"]
    ]
    assert sum(counted) == 10


def test_workers_that_come_later_have_it(
    plain: LocalCluster, client: Client, tree: Write, on_worker: OnWorker
) -> None:
    """A worker added afterwards, and one that its nanny restarted, have the modules."""
    tree({"late.py": MODULE.format(7)})
    code = ship(client, _flow("    import late")).code
    before = set(client.scheduler_info()["workers"])
    client.restart_workers([min(before)], timeout=120)
    restarted = set(client.scheduler_info()["workers"])
    assert len(restarted - before) == 1
    (new,) = restarted - before
    assert on_worker(code, "__import__('late').value()", workers=[new]) == 7
    plain.scale(3)
    try:
        client.wait_for_workers(3, timeout=120)
        (new,) = set(client.scheduler_info()["workers"]) - restarted
        assert on_worker(code, "__import__('late').value()", workers=[new]) == 7
    finally:
        client.retire_workers([new])


def test_plain_dask_calls_find_what_was_shipped_last(client: Client, tree: Write) -> None:
    """Outside of flow runs, the code shipped last is imported."""
    tree({"last.py": MODULE.format(1)})
    ship(client, _flow("    import last"))
    tree({"last.py": MODULE.format(2)})
    ship(client, _flow("    import last"))
    assert set(client.run(lambda: __import__("last").value()).values()) == {2}


def test_the_worker_keeps_its_own_modules_otherwise(client: Client, tree: Write) -> None:
    """A module that a worker has itself is there again for runs that ship none of that name."""
    tree({"owned.py": MODULE.format("'shipped'")})
    mine = ship(client, _flow("    import owned")).code
    tree({"other.py": MODULE.format(0)})
    none = ship(client, _flow("    import other")).code

    def call() -> list[str]:
        import sys
        import types

        own = types.ModuleType("owned")
        vars(own)["value"] = lambda: "own"
        with none.entered():
            sys.modules["owned"] = own
        told = []
        for code in (mine, none, mine):
            with code.entered():
                told.append(__import__("owned").value())
        del sys.modules["owned"]
        return told

    call.__module__ = "__main__"
    assert client.submit(call, pure=False).result(timeout=120) == ["shipped", "own", "shipped"]


def test_broken_and_forbidden_modules_are_told_first(client: Client, tree: Write) -> None:
    """A syntax error, a name of Python's or Dask's, and a lost module are one sentence each."""
    tree({"broken.py": "x = 1\ndef f(:\n"})
    with pytest.raises(CodeError, match=r"line 2 of .*broken\.py is no Python"):
        ship(client, _flow("    import broken"))
    tree({"antigravity.py": "", "yaml.py": ""})
    with pytest.raises(CodeError, match="a module of Python itself"):
        declare("antigravity.py")
    with pytest.raises(CodeError, match="the installed package 'yaml'"):
        declare("yaml.py")
    tree({"failing.py": "x = 1\n"})
    importlib.import_module("failing")
    etl = _flow("    import failing")
    ship(client, etl)
    tree({"failing.py": "x = 1\ny = x / 0\n"})
    with pytest.raises(CodeError, match=r"failing\.py, line 2 cannot be loaded again"):
        ship(client, etl)


def test_a_deleted_module_travels_as_the_kernel_has_it(
    client: Client, folder: Path, tree: Write
) -> None:
    """What the kernel has loaded still works when its file is gone, and that is said."""
    import cloudpickle

    tree({"vanished.py": MODULE.format(3)})
    vanished: Any = importlib.import_module("vanished")
    etl = _flow("    import vanished")
    ship(client, etl)
    (folder / "vanished.py").unlink()
    shipped = ship(client, etl)
    assert "vanished" not in shipped.code.names
    assert "so the kernel's own copies travel: vanished" in shipped.sentences[0]
    assert client.submit(vanished.value, pure=False).result(timeout=120) == 3
    cloudpickle.unregister_pickle_by_value(vanished)


def test_many_and_large_files(client: Client, folder: Path, on_worker: OnWorker) -> None:
    """A thousand files and 50 MB arrive; then one edit sends the small files alone."""
    pack = folder / "bulk"
    pack.mkdir()
    (pack / "__init__.py").write_text("")
    for number in range(1000):
        (pack / f"m{number}.py").write_text(f"N = {number}\n")
    for number in range(5):
        (pack / f"data{number}.bin").write_bytes(bytes([number]) * 10_000_000)
    etl = _flow("    import bulk.m999")
    shipped = ship(client, etl)
    assert len(shipped.files) == 1006
    assert "50 MB" in shipped.sentences[0]
    assert on_worker(shipped.code, "__import__('bulk.m999').m999.N") == 999
    (pack / "m5.py").write_text("N = -5\n")
    shipped = ship(client, etl)
    assert shipped.sentences[0].startswith("Shipped 1 file (7 bytes)")
    assert on_worker(shipped.code, "__import__('bulk.m5').m5.N") == -5
    (pack / "huge.bin").write_bytes(bytes(config.size("sync.file-limit") + 1))
    assert "huge.bin (20 MB, over daskenv.sync.file-limit)" in ship(client, etl).sentences[0]


def test_a_folder_that_cannot_be_written_is_told(
    client: Client, tree: Write, on_worker: OnWorker
) -> None:
    """One worker that has no place for the code says so first, and has it once there is one."""
    tree({"unwritten.py": MODULE.format(1)})

    def block(dask_worker: Any) -> Any:
        import sys

        store = sys.modules["_daskenv_code"].store  # type: ignore[attr-defined]
        before = store._folder, dask_worker.local_directory
        store._folder, dask_worker.local_directory = None, "/proc/nowhere"
        return before

    def unblock(dask_worker: Any, before: Any) -> None:
        import sys

        store = sys.modules["_daskenv_code"].store  # type: ignore[attr-defined]
        store._folder, dask_worker.local_directory = before[dask_worker.address]

    for function in (block, unblock):
        function.__module__ = "__main__"
    tree({"before.py": ""})
    ship(client, _flow("    import before"))
    blocked = [max(client.scheduler_info()["workers"])]
    before = client.run(block, workers=blocked)
    try:
        with pytest.raises(CodeError, match="cannot write the code"):
            ship(client, _flow("    import unwritten"))
    finally:
        client.run(unblock, before=before, workers=blocked)
    code = ship(client, _flow("    import unwritten")).code
    for worker in client.scheduler_info()["workers"]:
        assert on_worker(code, "__import__('unwritten').value()", workers=[worker]) == 1


def test_two_kernels_ship_at_once(plain: LocalCluster, tree: Write) -> None:
    """Two clients that ship the same at one moment both succeed."""
    tree({"together.py": MODULE.format(1)})
    etl = _flow("    import together")
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with Client(plain.scheduler_address, set_as_default=False) as client:
                ship(client, etl)
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failed == []


def test_an_edit_before_it_is_sent_is_sent_too(
    client: Client, folder: Path, tree: Write, on_worker: OnWorker
) -> None:
    """What was written after the look is what both ends have; what never rests is refused."""
    tree({"between.py": MODULE.format(1)})
    between: Any = importlib.import_module("between")
    gathered = gather(_flow("    import between"))
    tree({"between.py": MODULE.format(2)})
    shipped = send(client, gathered)
    assert "Loaded again, as the files have changed: between" in shipped.sentences
    assert (between.value(), on_worker(shipped.code, "__import__('between').value()")) == (2, 2)
    tree({"between.py": MODULE.format(1)})
    code = ship(client, _flow("    import between")).code
    assert (between.value(), on_worker(code, "__import__('between').value()")) == (1, 1)
    # Linux counts in it what was read, this file included.
    (folder / "restless.txt").symlink_to("/proc/self/io")
    declare("restless.txt")
    with pytest.raises(CodeError, match=r"restless\.txt changes all the time"):
        ship(client)
    withdraw("restless.txt")


@pytest.mark.slow
def test_a_scheduler_that_came_back_gets_it_again(tmp_path: Path, tree: Write) -> None:
    """A scheduler started anew at the same address has nothing, and the same client notices."""
    tree({"again.py": MODULE.format(1)})
    etl = _flow("    import again")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    own = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = [
        ["dask_scheduler", *own, "--port", address.rpartition(":")[2]],
        ["dask_worker", *own, address, "--no-nanny", "--local-directory", str(tmp_path)],
    ]

    def start() -> list[subprocess.Popen[bytes]]:
        return [
            subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for module, *arguments in commands
        ]

    def call(code: Code) -> Any:
        with code.entered():
            return importlib.import_module("again").value()

    call.__module__ = "__main__"
    started = start()
    try:
        with Client(address, timeout=120, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=120)
            first = client._scheduler_identity["id"]
            assert ship(client, etl).files == ("again.py",)
            for process in started:
                process.kill()
                process.wait(120)
            started = start()
            deadline = time.monotonic() + 120
            while client._scheduler_identity.get("id") == first or client.status != "running":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            client.wait_for_workers(1, timeout=120)
            shipped = ship(client, etl)
            assert shipped.files == ("again.py",)
            assert client.submit(call, shipped.code, pure=False).result(timeout=120) == 1
    finally:
        for process in started:
            process.kill()
            process.wait(120)
