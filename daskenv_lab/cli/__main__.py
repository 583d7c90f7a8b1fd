"""The command as ``python -m daskenv_lab.cli``, for when no script is on the path."""

from daskenv_lab.cli import main

main(prog_name="daskenv")
