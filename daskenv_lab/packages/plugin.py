"""What installs packages on workers while they run. It is pickled by value.

Dask's own ``PipInstall`` installs into the worker's own environment, which may be somebody's; it
holds up the worker's event loop without a limit, and takes whatever dependencies pip finds, also
newer ones of Dask's own.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed import WorkerPlugin

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger("distributed.worker")

_PIP = ("-m", "pip", "--no-input", "--disable-pip-version-check", "install", "--quiet")
# One wheel for every platform, of exactly what was asked for: no code runs while it is installed.
_PURE = (
    "--no-user",
    "--no-deps",
    "--only-binary=:all:",
    "--platform=any",
    "--implementation=py",
    "--abi=none",
)


class InstallPure(WorkerPlugin):  # type: ignore[misc] # Dask publishes no types
    """Installs pure packages in a folder of the worker's own, which goes when the worker does.

    The folder is last on the import path, so that nothing of the image is hidden. What the worker
    has in any version is left alone. A worker that has done it does not do it again; one on which
    it failed tries again.

    Parameters
    ----------
    name : str
        The plugin's name, and the folder's.
    pins : mapping of str to str
        Versions by distribution.
    options : tuple of str
        Further arguments for pip.
    timeout : float
        Seconds for pip.
    """

    def __init__(
        self, name: str, pins: Mapping[str, str], options: tuple[str, ...], timeout: float
    ) -> None:
        self.name = name
        self.pins = dict(pins)
        self.options = options
        self.timeout = timeout

    async def setup(self, worker: Any) -> None:
        """Install; a failure is kept for whoever asks, and the worker works on."""
        # The attribute that `there.held` reads.
        done = worker.__dict__.setdefault("daskenv_packages", {})
        if self.name in done and not done[self.name]["failure"]:
            return
        folder = Path(worker.local_directory, self.name)
        # In a thread: the worker answers its scheduler meanwhile.
        done[self.name] = await asyncio.to_thread(self._install, folder)

    def _install(self, folder: Path) -> dict[str, Any]:
        wanted = {name: v for name, v in self.pins.items() if not _there(name)}
        if not wanted:
            return {"installed": {}, "failure": ""}
        pins = [f"{name}=={version}" for name, version in wanted.items()]
        failure = self._pip(folder, pins)
        if failure:
            _log.warning("%s cannot be installed: %s", ", ".join(pins), failure)
            return {"installed": {}, "failure": failure}
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        importlib.invalidate_caches()
        _log.info("Installed %s in %s", ", ".join(pins), folder)
        return {"installed": wanted, "failure": ""}

    def _pip(self, folder: Path, pins: list[str]) -> str:
        """Run pip; give its last word if it failed."""
        command = [sys.executable, *_PIP, *_PURE, f"--target={folder}", *self.options, *pins]
        try:
            ended = subprocess.run(  # our own list, and no shell
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"pip did not end within {self.timeout:g} s"
        except OSError as error:
            return f"pip did not start ({error})"
        lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR:")] or lines
        said = errors[-1].removeprefix("ERROR:").strip() if errors else "it said nothing"
        return f"pip said: {said}" if ended.returncode else ""


def _there(distribution: str) -> bool:
    try:
        return bool(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return False


cloudpickle.register_pickle_by_value(sys.modules[__name__])
