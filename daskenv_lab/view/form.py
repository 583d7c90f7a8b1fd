"""A flow's parameters as a form: its fields, and what somebody typed into them."""

from __future__ import annotations

import ast
import inspect
import json
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from daskenv_lab.errors import FlowParameterError
from daskenv_lab.flows.flow_run import check_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect import Flow

Kind = Literal["text", "whole", "number", "flag", "choice", "value"]
"""``value`` is a Python literal or JSON: a list, a mapping, or anything."""

_KINDS: dict[str, Kind] = {
    "string": "text",
    "integer": "whole",
    "number": "number",
    "boolean": "flag",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One parameter of a flow.

    Examples
    --------
    >>> Field(name="x", kind="value", required=True, type="list of integer").label
    'x (list of integer)'
    """

    name: str
    kind: Kind
    required: bool
    type: str
    """The type in words."""

    default: str | bool = ""
    """What the field holds at first."""

    choices: tuple[str, ...] = ()
    optional: bool = False
    """Whether None is a value, for which the field stays empty."""

    help: str = ""

    @property
    def label(self) -> str:
        """The name, and what fits."""
        return f"{self.name} ({self.type})" if self.type else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A form that somebody filled in."""

    parameters: Mapping[str, Any]
    """What fits, ready for the flow."""

    problems: Mapping[str, str]
    """A sentence by field for what does not fit; under ``""`` what concerns no single field."""


def fields(flow: Flow[..., Any]) -> tuple[Field, ...]:
    """Give the fields of a flow, from Prefect's own schema of its parameters.

    Examples
    --------
    >>> [field.name for field in fields(etl)]  # doctest: +SKIP
    ['day', 'retries']
    """
    schema = flow.parameters
    definitions = schema.definitions or {}
    free = {n for n, p in inspect.signature(flow.fn).parameters.items() if p.kind in _FREE}
    return tuple(
        _field(name, told, name in schema.required, definitions)
        for name, told in schema.properties.items()
        if name not in free
    )


def read(flow: Flow[..., Any], typed: Mapping[str, str | bool]) -> Filled:
    """Turn what was typed into parameters, and check them as Prefect will.

    Parameters
    ----------
    flow : prefect.Flow
        Whose form it is.
    typed : mapping
        The content by field.

    Examples
    --------
    >>> read(etl, {"day": "2026-13-01"}).problems  # doctest: +SKIP
    {'day': "'2026-13-01' is no date: month value is outside expected range of 1-12"}
    """
    parameters: dict[str, Any] = {}
    problems: dict[str, str] = {}
    annotations = _annotations(flow)
    for field in fields(flow):
        given = typed.get(field.name, field.default)
        if (given == "" and field.kind != "text") or (given == "" and field.optional):
            if field.required and not field.optional:
                problems[field.name] = f"{field.name} is needed; {_hint(field)}"
            elif field.optional:
                parameters[field.name] = None
            continue
        try:
            parameters[field.name] = _value(field, given)
            _check(annotations.get(field.name, Any), parameters[field.name])
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"[{at!r}]" for at in first["loc"])
            told = first["msg"][:1].lower() + first["msg"][1:]
            problems[field.name] = f"{field.name}{where}: {told}; {_hint(field)}"
        except ValueError as error:
            problems[field.name] = f"{field.name}: {error}; {_hint(field)}"
    if not problems:
        try:
            check_parameters(flow, parameters)
        except FlowParameterError as error:
            problems[""] = str(error)
    return Filled(parameters=parameters, problems=problems)


_FREE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _field(name: str, told: Any, required: bool, definitions: Mapping[str, Any]) -> Field:
    told, optional = _without_null(_resolved(told, definitions), definitions)
    kind: Kind = _KINDS.get(told.get("type", ""), "value")
    choices: tuple[str, ...] = ()
    if kind == "text" and told.get("enum"):
        kind, choices = "choice", tuple(told["enum"])
    default = told.get("default")
    return Field(
        name=name,
        kind=kind,
        required=required,
        type=_type(told, definitions),
        default=_shown(kind, default, choices, required=required),
        choices=("", *choices) if optional and choices else choices,
        optional=optional or (not required and default is None),
        help=str(told.get("description") or ""),
    )


def _resolved(told: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Put in what a reference means."""
    found: dict[str, Any] = dict(told)
    references = [found.pop("$ref", None), *(one.get("$ref") for one in found.pop("allOf", []))]
    for reference in references:
        if reference:
            found = {**definitions.get(reference.rpartition("/")[2], {}), **found}
    return found


def _without_null(told: dict[str, Any], definitions: Mapping[str, Any]) -> tuple[Any, bool]:
    """Take None out of what may be None."""
    kinds = told.get("anyOf")
    if not kinds:
        return told, False
    rest = [kind for kind in kinds if kind.get("type") != "null"]
    if len(rest) == 1:
        return {**_resolved(rest[0], definitions), **told}, len(rest) < len(kinds)
    return told, len(rest) < len(kinds)


def _type(told: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if told.get("enum"):
        return ""
    word = str(told.get("format") or told.get("type") or "")
    if told.get("type") == "array":
        inner = _type(_resolved(told.get("items") or {}, definitions), definitions)
        return f"list of {inner}" if inner else "list"
    return {"object": "mapping", "string": "text"}.get(word, word)


def _shown(kind: Kind, default: Any, choices: tuple[str, ...], *, required: bool) -> str | bool:
    if kind == "flag":
        return bool(default)
    if default is None:
        return choices[0] if kind == "choice" and required else ""
    if kind in ("text", "choice"):
        return str(default)
    return json.dumps(default, default=str)


def _value(field: Field, given: str | bool) -> Any:
    if field.kind in ("flag", "text", "choice"):
        return given
    text = str(given).strip()
    if field.kind in ("whole", "number"):
        kind = int if field.kind == "whole" else float
        try:
            return kind(text)
        except ValueError:
            word = "whole number" if field.kind == "whole" else "number"
            raise ValueError(f"{text!r} is no {word}") from None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if not field.type:
            return text
        raise ValueError(f"{text!r} is neither JSON nor a Python literal") from None


def _annotations(flow: Flow[..., Any]) -> dict[str, Any]:
    try:
        hints: dict[str, Any] = typing.get_type_hints(flow.fn, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}  # Prefect's own check, of the whole, comes later.
    return hints


def _check(annotation: Any, value: Any) -> None:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(
            annotation, config=ConfigDict(arbitrary_types_allowed=True)
        )
    except (PydanticSchemaGenerationError, PydanticUserError):
        try:
            adapter = TypeAdapter(annotation)
        except (PydanticSchemaGenerationError, PydanticUserError):
            return
    adapter.validate_python(value)


def _hint(field: Field) -> str:
    examples = {
        "whole": "write it as 3",
        "number": "write it as 0.5",
        "value": "write it as [1, 2, 3]" if "list" in field.type else "write it as JSON",
        "choice": f"choose one of {', '.join(field.choices)}",
    }
    return examples.get(field.kind, f"it takes {field.type or 'a value'}")
