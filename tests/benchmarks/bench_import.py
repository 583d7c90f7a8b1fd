"""What loading costs: CPU seconds beyond the start of Python or of IPython, in a table.

Run it with ``python tests/benchmarks/bench_import.py``; the goal is at most 0.15 s for each.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

_SHELL = (
    "from IPython.terminal.ipapp import TerminalIPythonApp\n"
    "app = TerminalIPythonApp.instance()\n"
    "app.initialize(['--no-banner', '--no-confirm-exit', '--quick'])\n"
)
_CASES = (
    ("import daskenv_lab", "", "import daskenv_lab"),
    ("%load_ext daskenv_lab", _SHELL, "app.shell.run_line_magic('load_ext', 'daskenv_lab')"),
    (
        "%load_ext, %daskenv",
        _SHELL,
        "app.shell.run_cell('%load_ext daskenv_lab\\n%daskenv')",
    ),
)
_GOAL = 0.15
_ROUNDS = 7


def _cpu(before: str, code: str) -> tuple[float, float]:
    """Measure the CPU seconds of the start, and of what comes after it, in a process of its own."""
    program = (
        f"import time\n{before}\nstart = time.process_time()\n{code}\n"
        "import sys\nprint('\\n', start, time.process_time() - start)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    start, taken = ended.stdout.split()[-2:]
    return float(start), float(taken)


def main() -> None:
    """Print the median of a few rounds for each way of loading."""
    print(f"{'what':<24}{'start before it':>18}{'CPU beyond it':>16}{'goal':>8}")
    for what, before, code in _CASES:
        rounds = [_cpu(before, code) for _ in range(_ROUNDS)]
        start, taken = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{what:<24}{start:>16.3f} s{taken:>14.3f} s{_GOAL:>6} s")


if __name__ == "__main__":
    main()
