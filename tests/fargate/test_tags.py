"""What the tags of a cluster say, and how much of it fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daskenv_lab.providers.fargate.tags import Identity


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_words_fit_into_tags(name: str, owner: str) -> None:
    """AWS takes the tags of any name and owner, and the cluster's id is read from them again."""
    tags = Identity(cluster="8f3e", name=name, owner=owner).tags(role="worker")
    assert all(0 < len(value) <= 256 for value in tags.values())
    read = Identity.from_tags(tags)
    assert read is not None
    assert read.cluster == "8f3e"


def test_no_address_is_cut_in_the_middle() -> None:
    """Of more addresses than a tag holds, the newest stay, each of them whole."""
    cidrs = [f"203.0.113.{n}/32" for n in range(30)]
    [written] = Identity(cluster="8f3e", name="dev", owner="ada@here").allowing(cidrs).values()
    assert len(written) <= 256
    assert written.split() == cidrs[-len(written.split()) :]
