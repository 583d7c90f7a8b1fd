"""Prefect is imported without a checker that nobody asks, which goes on to work for who does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

IMPORTED = """
import sys
import daskenv_lab.flows
assert "prefect" in sys.modules and "jsonschema" in sys.modules
assert not any(name.startswith("rfc3987_syntax") for name in sys.modules)
"""

CHECKED = """
import jsonschema
checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
assert checker.conforms("https://example.org/ä", "iri")
assert not checker.conforms("no iri", "iri")
import rfc3987_syntax
assert rfc3987_syntax.parse
"""


@pytest.mark.slow
def test_iris_are_checked_when_somebody_asks() -> None:
    """The grammar is built then, and not before."""
    pytest.importorskip("rfc3987_syntax")
    # The tests' other processes are spared that checker in another way.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", IMPORTED + CHECKED]
    subprocess.run(command, env=variables, check=True, timeout=120)
