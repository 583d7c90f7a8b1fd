"""Importing Prefect in half the time, where Jupyter is installed beside it.

Prefect imports jsonschema, and jsonschema every checker of formats that it finds. One of them,
`rfc3987-syntax`, comes with Jupyter Server, and builds a grammar when it is imported: 2.7 of the
6 seconds that ``import prefect`` takes. Neither Prefect nor we ask whether a text is an IRI.

The module is pickled by value, for workers that do not have this package.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types

import cloudpickle

SLOW = "rfc3987_syntax"
"""The module that is imported when it is first asked, and not before."""


def import_jsonschema() -> None:
    """Import jsonschema, if it is installed and nobody has, without its slowest checker.

    That is imported when somebody checks an IRI.
    """
    if {"jsonschema", SLOW} & set(sys.modules) or importlib.util.find_spec(SLOW) is None:
        return
    stand_in = types.ModuleType(SLOW)
    vars(stand_in)["is_valid_syntax"] = _is_valid_syntax
    sys.modules[SLOW] = stand_in
    try:
        with contextlib.suppress(ImportError):
            import jsonschema  # type: ignore[import-untyped]  # noqa: F401
    finally:
        del sys.modules[SLOW]


def _is_valid_syntax(term: str, value: str) -> bool:
    from rfc3987_syntax import is_valid_syntax  # type: ignore[import-untyped]

    return bool(is_valid_syntax(term, value))


cloudpickle.register_pickle_by_value(sys.modules[__name__])
