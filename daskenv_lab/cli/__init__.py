"""The verbs: one click group that is both the ``daskenv`` command and the ``%daskenv`` magic."""

from daskenv_lab.cli.verbs import main

__all__ = ["main"]
