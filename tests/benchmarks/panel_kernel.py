"""The kernels of `bench_panel.py`, and what they use while they are left alone."""

from __future__ import annotations

import queue
import threading
import time

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager


class Kernel:
    """A Python kernel as a notebook has it, and somebody who reads all that it sends."""

    def __init__(self) -> None:
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel()
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=120)
        self._process = psutil.Process(self._manager.provisioner.pid)  # type: ignore[union-attr]
        self._ended = threading.Event()
        self.messages = self.bytes = 0
        self.printed = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def run(self, code: str) -> None:
        """Run a cell, and wait until it has ended."""
        answer = self._client.execute(code, reply=True, timeout=120)
        if answer["content"]["status"] != "ok":
            raise SystemExit("\n".join(answer["content"]["traceback"]))

    def cpu(self) -> float:
        """Give the CPU seconds that it has used."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._reader.join(60)
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def _read(self) -> None:
        while not self._ended.is_set():
            try:
                message = self._client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                continue
            self.messages += message["header"]["msg_type"].startswith("comm")
            self.bytes += len(str(message["content"]))
            if message["header"]["msg_type"] == "stream":
                self.printed += message["content"]["text"]


def loads(kernels: dict[str, Kernel], seconds: float) -> dict[str, tuple[float, float, float]]:
    """Measure kernels during the same seconds.

    Returns
    -------
    dict
        By name: the CPU in per cent of one core, and the widgets' messages and bytes a second.
    """
    before = {name: (k.cpu(), k.messages, k.bytes) for name, k in kernels.items()}
    began = time.monotonic()
    time.sleep(seconds)
    taken = time.monotonic() - began
    found = {}
    for name, kernel in kernels.items():
        cpu, messages, sent = before[name]
        found[name] = (
            100 * (kernel.cpu() - cpu) / taken,
            (kernel.messages - messages) / taken,
            (kernel.bytes - sent) / taken,
        )
    return found
