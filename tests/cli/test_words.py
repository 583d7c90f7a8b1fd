"""Words become values: literals or text, and never code."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskenv_lab.cli.words import assignments, literal, split_line
from daskenv_lab.errors import CommandError


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("   ", []),
        ("run add_up x=[1,2,3]", ["run", "add_up", "x=[1,2,3]"]),
        ("run add_up x=[1, 2, 3]", ["run", "add_up", "x=[1, 2, 3]"]),
        ("run f x={'a b': [1, (2, 3)]} y=2", ["run", "f", "x={'a b': [1, (2, 3)]}", "y=2"]),
        ("up local --name dev          # starts, or reuses", ["up", "local", "--name", "dev"]),
        ("run f name='a b'", ["run", "f", "name='a b'"]),
        ("run f name='a # b'", ["run", "f", "name='a # b'"]),
        ("run f 'x=[1, 2]'", ["run", "f", "x=[1, 2]"]),
        ('export "my file.py"', ["export", "my file.py"]),
        ('up --name="dev" --option image="a b"', ["up", "--name=dev", "--option", 'image="a b"']),
        (r"run f x='it\'s'", ["run", "f", r"x='it\'s'"]),
        ("run f x=don't", ["run", "f", "x=don't"]),
        ("run f x=b'a b' y='''c d'''", ["run", "f", "x=b'a b'", "y='''c d'''"]),
        ("run f x=a#b", ["run", "f", "x=a#b"]),
        ("run f x=['(', ']']", ["run", "f", "x=['(', ']']"]),
        ("run f x=:)", ["run", "f", "x=:)"]),
    ],
)
def test_a_line_is_split_outside_of_brackets_and_quotes(line: str, words: list[str]) -> None:
    """Blanks inside brackets and quotes do not end an argument, and comments are left out."""
    assert split_line(line) == words


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run f x=[1, 2", r"'\[' in 'x=\[1, 2' is never closed; add '\]'"),
        ("run f x='a b", r"the quote in .* is never closed; add '"),
        ("run f x=(1, 2]", r"'\(' is closed by '\]'"),
        ("run f x='''a b'", "never closed"),
        ("run f 'a\\", "never closed"),
    ],
)
def test_what_is_never_closed_is_told(line: str, said: str) -> None:
    """A bracket or quote without its end is one sentence with what to add."""
    with pytest.raises(CommandError, match=said):
        split_line(line)


@given(st.text(max_size=40))
def test_any_line_is_split_or_refused(line: str) -> None:
    """No line does anything but give words or one sentence."""
    try:
        words = split_line(line)
    except CommandError:
        return
    assert all(isinstance(word, str) for word in words)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.binary(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
        max_leaves=6,
    )
)
def test_the_repr_of_a_value_comes_back(value: Any) -> None:
    """Whatever Python shows for a plain value is read as that value, from a magic's line too."""
    words = split_line(f"run f x={value!r} y=1")
    assert assignments(words[2:], noun="parameter") == {"x": value, "y": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("None", None),
        ("abc", "abc"),
        ("", ""),
        ("2026-01-02", "2026-01-02"),
        ("007", "007"),
        ("a,b", "a,b"),
        ("s3://bucket/key=1", "s3://bucket/key=1"),
        ("__import__('os').abort()", "__import__('os').abort()"),
        ("1+1", "1+1"),
        ("true", "true"),
        ("a b", "a b"),
        ("\0", "\0"),
    ],
)
def test_a_word_is_a_literal_or_text(text: str, value: Any) -> None:
    """What is no literal is text, and is never evaluated."""
    assert literal(text, name="x") == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1,2", "was never closed"),
        ("[a, b]", "it holds a name or a calculation"),
        ("{'a': open('x')}", "it holds a name or a calculation"),
        ("'abc", "unterminated"),
        ("[" * 500 + "]" * 500, "nested|too many"),
        ("{[1]: 2}", "it holds"),
        ("[1]" + " " * 100_001, "characters"),
    ],
)
def test_a_broken_literal_is_told(text: str, reason: str) -> None:
    """What begins like a literal and is none is one sentence that names the parameter."""
    with pytest.raises(CommandError, match=reason) as raised:
        literal(text, name="x")
    assert str(raised.value).startswith("x")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("words", [["x"], ["=1"], ["3x=1"], ["a b=1"], ["x=1", "x=2"], ["--y=1"]])
def test_what_is_no_assignment_is_told(words: list[str]) -> None:
    """A word without a key, or a key that comes twice, is one sentence."""
    with pytest.raises(CommandError, match=r"is no parameter|is given twice"):
        assignments(words, noun="parameter")
