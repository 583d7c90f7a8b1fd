"""Environments with whatever settings may hold, for tests that write them down."""

from __future__ import annotations

import math
from typing import Any
from unicodedata import normalize

from hypothesis import strategies as st

from daskenv_lab.environments import (
    DaskCloudProviderEnvironment,
    DaskGatewayEnvironment,
    Environment,
    RemoteDaskEnvironment,
)
from daskenv_lab.errors import EnvironmentValueError


def announce() -> None:
    """Stand for a hook that a module offers."""


class Hooks:
    """Stand for a class whose functions are hooks."""

    @staticmethod
    def announce() -> None:
        """Stand for a hook that lies in a class."""


HOSTILE = [
    '"',
    "'",
    '"""',
    "\\",
    "\\'",
    '"\'"',
    "{x}",
    "\x00",
    "�",
    "\u202e",
    "é" * 50,
    "x" * 120,
    "\n",
    " a\n  b \n",
    "\r\n",
    "\t",
    "\x85",
    "\u2028",
    "\ufeff",
    "\x7f",
    "\x1b[0m",
    "$HOME",
    "${HOME}",
    "$$",
    "%PATH%",
    "{{ prefect.variables.x }}",
    "{{ $HOME }}",
    "{{",
    "}}",
    "on",
    "no",
    "null",
    "~",
    "1e3",
    "0o7",
    "1_000",
    ".inf",
    "2026-11-21",
    "12:30:45",
    "=",
    "<<",
    "!!python/object:os.system",
    "&a",
    "*a",
    "# x",
    "a: b",
    "- a",
    "? a",
    "|",
    "---",
    "a-b",
    "a_b",
    "kind",
    "$map",
    "$tuple",
    "schema",
    "arguments",
    "Checksum 0123456789abcdef",
    "${}",
    "\\u0024",
]
texts = st.text(max_size=12) | st.sampled_from(HOSTILE)
whole = st.integers() | st.sampled_from([10**400, -(10**400), 2**1024, 1 - 2**1024])
plain = st.none() | st.booleans() | whole | texts | st.binary(max_size=9)
hashable = plain | st.lists(plain, max_size=3).map(tuple) | st.frozensets(plain, max_size=3)
values = st.recursive(
    hashable | st.floats() | st.timedeltas() | st.sets(hashable, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=6,
)
hooks = st.sampled_from([None, announce, Hooks.announce, math.fsum])
mappings = st.dictionaries(texts, values, max_size=2)


def _made(kind: str, further: dict[str, Any], **shared: Any) -> Environment:
    """Make an environment, without further arguments that are too much like its own."""
    further = {name: v for name, v in further.items() if normalize("NFKC", name) == name}
    try:
        match kind:
            case "remote":
                return RemoteDaskEnvironment(
                    "tls://10.0.0.5:8786", executor_kwargs=further, **shared
                )
            case "fargate" | "etl.clusters.Own":
                return DaskCloudProviderEnvironment(kind, n_workers=3, **shared, **further)
            case _:
                return DaskGatewayEnvironment(
                    kind or None, adaptive_max_workers=3, **shared, **further
                )
    except (EnvironmentValueError, TypeError):
        return DaskCloudProviderEnvironment("fargate", n_workers=3, labels=shared["labels"])


environments = st.builds(
    _made,
    st.sampled_from(["local", "", "https://gateway.example.org", "remote", "fargate"])
    | st.just("etl.clusters.Own"),
    mappings,
    metadata=mappings,
    labels=st.lists(texts.filter(bool), max_size=3),
    on_start=hooks,
)
