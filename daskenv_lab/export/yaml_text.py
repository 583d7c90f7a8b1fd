"""YAML that every reader understands alike: in ASCII, and each text that could mean more quoted.

YAML 1.1, which PyYAML reads, and YAML 1.2 disagree on words such as ``on``, ``1e3`` and ``0o7``.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

# Words with which no version of YAML means anything but themselves.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}(?:-[A-Za-z0-9_]+)*")
_MEANING = frozenset({"null", "true", "false", "yes", "off", "nan", "inf"})


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's own signature
        """Write what occurs twice twice; a reader may not take references."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's own signature
        """Indent lists too, as people write them."""
        super().increase_indent(flow, False)


def _represented(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _MEANING
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(str, _represented)


def yaml_text(value: Any) -> str:
    r"""Write plain values as YAML.

    Examples
    --------
    >>> print(yaml_text({"kind": "local", "on": ["no", "a\x00"]}), end="")
    kind: local
    "on":
      - "no"
      - "a\0"
    """
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=float("inf")
    )
