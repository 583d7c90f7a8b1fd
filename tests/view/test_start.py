"""What can be chosen for a new cluster: pure functions over what a provider offers."""

from __future__ import annotations

import dask
import pytest

from daskenv_lab.providers.contract import Offer
from daskenv_lab.view.start import asks, choices, profiles, settings, up_call

OFFERS = (
    Offer(name="worker_cores", label="Cores", kind="whole", default=1, least=1, most=4),
    Offer(name="spot", label="Spot", kind="flag", default=True),
    Offer(name="size", label="Size", kind="choice", default="small", choices=("small", "big")),
    Offer(name="image", label="Image", kind="text", default="plain"),
)


def test_what_can_be_started_and_how_large() -> None:
    """Fargate offers the memory sizes that go with the CPU, and a wrong one is replaced."""
    assert profiles()[0] == "local"
    assert not asks("fargate")
    found = {c.name: c for c in choices("fargate", {"worker_cpu": 256, "worker_mem": 16384})}
    assert [value for _, value in found["worker_mem"].options] == [512, 1024, 2048]
    assert found["worker_mem"].value == 512
    assert {c.name: c.value for c in choices("fargate", {})}["worker_mem"] is None
    chosen = settings(found.values(), {n: c.value for n, c in found.items()})
    assert chosen == {"worker_cpu": 256, "worker_mem": 512}


def test_only_what_was_chosen_is_said() -> None:
    """A Gateway's options hold by themselves; False, 0 and a changed word are choices."""
    assert asks("local")
    assert choices("local", {}) == ()
    found = choices("local", {"worker_cores": 3}, OFFERS)
    assert [(c.name, c.value) for c in found] == [
        ("worker_cores", 3),
        ("spot", True),
        ("size", "small"),
        ("image", "plain"),
    ]
    assert settings(found, {c.name: c.value for c in found}) == {"worker_cores": 3}
    changed = {"worker_cores": 1, "spot": False, "size": "big", "image": ""}
    assert settings(found, changed) == {"spot": False, "size": "big"}
    call = up_call("dev", "local", {"spot": False, "worker-size": "big", "n_workers": 0})
    assert call.code == (
        "daskenv_lab.up('local', name='dev', spot=False, n_workers=0, **{'worker-size': 'big'})"
    )


def test_what_a_profile_says_stands() -> None:
    """What the profile holds is shown, and said only where it is changed, also back."""
    profile = {"kind": "gateway", "gateway_address": "https://x.example", "worker_cores": 2}
    with dask.config.set({"daskenv.profiles.team": profile}):
        found = choices("team", {}, OFFERS)
        assert found[0].value == 2
        assert settings(found[:1], {"worker_cores": 2}) == {}
        assert settings(found[:1], {"worker_cores": 1}) == {"worker_cores": 1}


@pytest.mark.parametrize("name", ["name", "timeout", "progress", "n_workers", "labels", "self"])
def test_an_option_with_a_word_of_ours_is_not_offered(name: str) -> None:
    """It would be taken for what `up` or the environment calls so."""
    assert choices("local", {}, [Offer(name=name, label="", kind="text", default="")]) == ()


def test_a_secret_is_not_shown() -> None:
    """What a profile holds as a secret stays there, and out of the fields."""
    offer = Offer(name="api_token", label="Token", kind="text", default="")
    with dask.config.set({"daskenv.profiles.team": {"kind": "local", "api_token": "hunter2"}}):
        assert choices("team", {}, [offer]) == ()
