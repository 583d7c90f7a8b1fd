"""An environment as the text of a Python module that makes an equal one.

The module is made from the environment's written form, so it is equal by construction: whatever
has no written form cannot be exported, and a secret is there by its variable's name alone. Hooks
of a notebook, which no module offers, are there by their source.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from daskenv_lab.environments.base import HOOKS
from daskenv_lab.environments.codec import encode
from daskenv_lab.errors import EnvironmentValueError, ExportError
from daskenv_lab.export.code import Writer, has_lone_tuple
from daskenv_lab.export.imports import Imports, importable, offered
from daskenv_lab.export.layout import WIDTH, Atom, Group, Named, call, text
from daskenv_lab.export.secrets import refuse_open_secrets, variables, written
from daskenv_lab.export.signature import paragraphs, signed
from daskenv_lab.export.source import Source, name_of, source_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from daskenv_lab.environments import Environment
    from daskenv_lab.export.request import BoundFlow

_OWN = frozenset({"environment", "float", "frozenset", "set"})
"""Names that the module uses, and cannot call otherwise."""


def python_module(
    environment: Environment,
    *,
    source: str,
    when: datetime,
    registration: Mapping[str, Any] | None = None,
    flow: BoundFlow | None = None,
) -> str:
    """Write the module that makes an equal environment when it is imported.

    The text is what ``ruff format`` would make of it, and passes ``ruff check``, but for the source
    of hooks, which stays as it was written.

    Parameters
    ----------
    environment : Environment
        The settings.
    source : str
        Where they come from, such as ``the session 'dev'``.
    when : datetime
        When they were read; converted to UTC.
    registration : mapping, optional
        The keyword arguments of the call that registers a flow when the module is run, with the
        flow itself as ``flow``.
    flow : BoundFlow, optional
        A flow that the module holds or imports, and binds to the environment.

    Raises
    ------
    ExportError
        A setting cannot be written as code: a lambda, an open connection, a password inside an
        address, or a hook of the notebook that uses one.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from daskenv_lab import DaskGatewayEnvironment
    >>> when = datetime(2026, 11, 21, tzinfo=UTC)
    >>> made = python_module(DaskGatewayEnvironment("local"), source="the session 'dev'", when=when)
    >>> print(made.partition("environment = ")[2])
    DaskGatewayEnvironment(
        gateway_address="local",
    )
    <BLANKLINE>
    """
    hooks = _hooks_by_source(environment)
    others = {k: v for k, v in environment.arguments().items() if k not in hooks}
    arguments = written(type(environment)(**others))["arguments"]
    found = _source(hooks, flow)
    imports = Imports(found.imports, found.names)
    if flow and flow.module:
        imports.add(flow.module, flow.name, flow.name)
    cls = imports.name(*_home(type(environment)))
    # The bodies are laid out first: they decide what is imported.
    writer = Writer(imports, ascii_only=has_lone_tuple(arguments))
    body = _environment(writer, cls, arguments, {k: name_of(v) for k, v in hooks.items()})
    last = [*_binding(flow), *_registration(imports, registration)]
    docstring = _docstring(source, when, variables(environment))
    lines = [docstring, *imports.lines(), "", *_sources(found), *body, *last]
    return signed("\n".join(lines) + "\n")


def _home(cls: type[Environment]) -> tuple[str, str]:
    """Give the module that offers an environment's class, and its name there."""
    if cls.__module__.startswith("daskenv_lab."):
        return "daskenv_lab", cls.__name__
    module, name, rest = importable(f"{cls.__module__}:{cls.__qualname__}", where="the class")
    if rest:
        raise ExportError(f"the class {cls.__qualname__!r} lies inside another; move it out")
    return module, name


def _hooks_by_source(environment: Environment) -> dict[str, Any]:
    """Give the hooks that no other process could import."""
    hooks = {name: getattr(environment, name) for name in HOOKS}
    return {name: hook for name, hook in hooks.items() if hook is not None and not offered(hook)}


def _source(hooks: Mapping[str, Any], flow: BoundFlow | None) -> Source:
    """Give the source of what no other process could import, in one."""
    for name, hook in hooks.items():
        try:
            source_of(hook)
        except ExportError as error:
            raise ExportError(f"the hook {name} cannot be exported: {error}") from error
    flows = [flow.value] if flow and flow.value is not None else []
    found = source_of(*hooks.values(), *flows)
    if clash := sorted((found.names | Imports(found.imports).bound) & _OWN):
        whose = [*hooks, *([f"the flow {flow.name}"] if flow and flows else [])]
        raise ExportError(
            f"{', '.join(whose)} use the name {clash[0]!r} for something of their own, and the "
            "exported module uses it too; rename it"
        )
    return found


def _environment(
    writer: Writer, cls: str, arguments: dict[str, Any], hooks: Mapping[str, str]
) -> list[str]:
    made = writer.constructor(cls, arguments, {name: Atom(code) for name, code in hooks.items()})
    layout = made.broken if isinstance(made, Group) else made.lines
    return [*layout(0, "environment = ", "")]


def _binding(flow: BoundFlow | None) -> list[str]:
    """Write the lines that give the flow the environment's task runner."""
    if flow is None:
        return []
    runner = Named("task_runner=", Atom("environment.task_runner()"))
    return [*call(f"{flow.name}.with_options", [runner]).lines(0, f"{flow.name} = ", "")]


def _registration(imports: Imports, given: Mapping[str, Any] | None) -> list[str]:
    """Write the call that registers a flow when the module is run, and not when it is imported."""
    if given is None:
        return []
    flow = given.get("flow")
    if not isinstance(flow, str) or ":" not in flow:
        raise ExportError(
            f"registration has flow={flow!r:.80}; name the flow as 'flows.py:etl' or 'flows:etl'"
        )
    try:
        others = {k: encode(v, where=k) for k, v in given.items() if k != "flow"}
    except EnvironmentValueError as error:
        raise ExportError(f"the registration cannot be exported: {error}") from error
    refuse_open_secrets({"flow": flow, **others})
    writer = Writer(imports, ascii_only=has_lone_tuple(others))
    made = writer.constructor("environment.register", others, {}, Atom(text(flow)))
    return ["", 'if __name__ == "__main__":', *made.lines(4, "", "")]


def _sources(found: Source) -> list[str]:
    """Give the lines of the hooks' source, with the empty lines around definitions."""
    lines = [line for constant in found.constants for line in constant.splitlines()]
    lines += [""] if lines else []
    if found.definitions:
        lines += ["", *found.definitions.splitlines(), "", ""]
    return lines


def _docstring(source: str, when: datetime, names: list[str]) -> str:
    """Say where the module comes from; nothing in `source` can end the docstring."""
    lines = ['"""The Dask environment of a flow, as it was tuned.']
    for paragraph in paragraphs(source, when):
        lines += ["", *textwrap.wrap(paragraph, WIDTH, break_on_hyphens=False)]
    if names:
        lines += ["", "Each secret is read from a process variable when it is needed:"]
        lines += ["", *(f"- {name}" for name in names)]
    return "\n".join([*lines, '"""', ""])
