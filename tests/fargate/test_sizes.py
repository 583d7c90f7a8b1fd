"""Fargate's sizes: the table, and the nearest sizes to one that does not exist."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskenv_lab import sizes
from daskenv_lab.errors import EnvironmentValueError

VALID = [(cpu, memory) for cpu in sizes.CPUS for memory in sizes.memories(cpu)]
ANY = st.tuples(st.integers(-10, 40_000), st.integers(-10, 300_000))


def test_the_table_has_as_many_sizes_as_aws_lists() -> None:
    """The ranges of AWS's table, with its steps, come to these numbers of sizes."""
    assert [len(sizes.memories(cpu)) for cpu in sizes.CPUS] == [3, 4, 7, 13, 23, 12, 12]
    assert {c: (sizes.memories(c)[0], sizes.memories(c)[-1]) for c in sizes.CPUS} == {
        256: (512, 2048),
        512: (1024, 4096),
        1024: (2048, 8192),
        2048: (4096, 16384),
        4096: (8192, 30720),
        8192: (16384, 61440),
        16384: (32768, 122880),
    }


@pytest.mark.parametrize("pair", VALID)
def test_a_valid_size_is_accepted_and_is_its_own_nearest(pair: tuple[int, int]) -> None:
    """Each size of the table passes."""
    sizes.check(*pair, what="worker")
    assert sizes.nearest(*pair) == (pair,)


@given(ANY)
def test_the_nearest_sizes_exist_and_the_first_is_enough_if_any_is(pair: tuple[int, int]) -> None:
    """What is proposed can be taken, and comes first if it has all that was asked for."""
    near = sizes.nearest(*pair)
    assert 1 <= len(near) <= 3
    assert set(near) <= set(VALID)
    if enough := [v for v in VALID if v[0] >= pair[0] and v[1] >= pair[1]]:
        assert near[0] == min(enough)


@given(ANY.filter(lambda pair: pair not in VALID))
def test_an_invalid_size_is_refused_in_one_sentence_with_the_nearest(pair: tuple[int, int]) -> None:
    """The error names the value, and each of the nearest sizes as it would be typed."""
    with pytest.raises(EnvironmentValueError) as refused:
        sizes.check(*pair, what="scheduler")
    sentence = str(refused.value)
    assert f"scheduler_cpu={pair[0]} and scheduler_mem={pair[1]}" in sentence
    for cpu, memory in sizes.nearest(*pair):
        assert f"scheduler_cpu={cpu} and scheduler_mem={memory}" in sentence


@pytest.mark.parametrize(
    ("pair", "near"),
    [
        ((1024, 1024), ((1024, 2048), (512, 1024))),
        ((256, 4096), ((512, 4096), (256, 2048))),
        ((4096, 3000), ((4096, 8192), (1024, 3072))),
        ((1024, 4100), ((1024, 5120), (1024, 4096))),
        ((16384, 200_000), ((16384, 122880),)),
    ],
)
def test_the_nearest_sizes_are_those_a_person_would_name(
    pair: tuple[int, int], near: tuple[tuple[int, int], ...]
) -> None:
    """More CPU for the memory, more memory for the CPU, or less of one of them."""
    assert sizes.nearest(*pair) == near
