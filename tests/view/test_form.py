"""Forms from Prefect's own schema of a flow's parameters, and what was typed into them."""

from __future__ import annotations

import datetime
import enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect import flow
from pydantic import BaseModel, Field

from daskenv_lab.view.form import fields, read


class Colour(enum.Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Options(BaseModel):
    """A nested value."""

    depth: int = 3


@flow
def everything(
    x: list[int],
    n: int = 3,
    ratio: float = 0.5,
    fine: bool = True,
    mode: Literal["slow", "fast"] = "slow",
    colour: Colour = Colour.RED,
    options: Options = Options(),  # noqa: B008 - as people write it
    when: datetime.date | None = None,
    positive: Annotated[int, Field(gt=0)] = 4,
    free: Any = None,
    **more: Any,
) -> Any:
    """Take one of each.

    Args:
        x: the numbers
    """
    return x, n, ratio, fine, mode, colour, options, when, positive, free, more


def test_each_kind_of_parameter_has_its_field() -> None:
    """The kind, the default, the choices and the words come from the schema."""
    found = {field.name: field for field in fields(everything)}
    assert {name: field.kind for name, field in found.items()} == {
        "x": "value",
        "n": "whole",
        "ratio": "number",
        "fine": "flag",
        "mode": "choice",
        "colour": "choice",
        "options": "value",
        "when": "text",
        "positive": "whole",
        "free": "value",
    }
    assert found["x"].required
    assert found["x"].help == "the numbers"
    assert found["x"].label == "x (list of integer)"
    assert (found["n"].default, found["fine"].default, found["mode"].default) == ("3", True, "slow")
    assert found["colour"].choices == ("red", "blue")
    assert found["options"].default == '{"depth": 3}'
    assert found["when"].optional


def test_defaults_are_taken_as_they_stand() -> None:
    """A form in which only what is needed was typed runs the flow."""
    filled = read(everything, {"x": "[1, 2]"})
    assert filled.problems == {}
    result = everything.fn(**everything.validate_parameters(dict(filled.parameters)))
    assert result[:4] == ([1, 2], 3, 0.5, True)
    assert result[5:9] == (Colour.RED, Options(), None, 4)


@pytest.mark.parametrize(
    ("name", "typed", "told"),
    [
        ("x", "", "x is needed; write it as [1, 2, 3]"),
        ("x", "[1, 'a']", "x[1]: input should be a valid integer"),
        ("x", "import os", "neither JSON nor a Python literal"),
        ("n", "q", "'q' is no whole number"),
        ("ratio", "1,5", "'1,5' is no number"),
        ("mode", "sideways", "choose one of slow, fast"),
        ("options", '{"depth": "deep"}', "options['depth']"),
        ("when", "2026-13-01", "month value is outside"),
        ("positive", "-1", "greater than 0"),
    ],
)
def test_what_does_not_fit_is_told_beside_its_field(name: str, typed: str, told: str) -> None:
    """The sentence names the value and what would fit, and the other fields are fine."""
    filled = read(everything, {"x": "[1]", name: typed})
    assert list(filled.problems) == [name]
    assert told in filled.problems[name]


@settings(max_examples=25, deadline=None)
@given(st.text())
def test_nothing_that_is_typed_is_evaluated_or_fails(typed: str) -> None:
    """Any text in any field is either a value or a sentence."""
    for name in ("x", "n", "ratio", "mode", "options", "when", "free"):
        filled = read(everything, {"x": "[1]", name: typed})
        assert set(filled.problems) <= {name, ""}


def test_a_flow_without_parameters_has_an_empty_form() -> None:
    """There is nothing to fill in."""

    @flow
    def bare() -> int:
        return 1

    assert fields(bare) == ()
    assert read(bare, {}).parameters == {}
