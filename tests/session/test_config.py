"""Configuration: defaults, profiles, and one sentence for each thing that is wrong."""

from __future__ import annotations

import itertools
import re
from typing import Any

import dask.config
import pytest
import yaml

from daskenv_lab import DaskGatewayEnvironment, RemoteDaskEnvironment, config
from daskenv_lab.environments import DaskCloudProviderEnvironment
from daskenv_lab.errors import ConfigError, EnvironmentValueError, UnknownNameError
from daskenv_lab.lifecycle import environment_for

TEAM = {
    "kind": "gateway",
    "gateway_address": "https://gateway.example.org",
    "auth": "jupyterhub",
    "adaptive-max-workers": 20,
}


def test_every_key_is_commented() -> None:
    """Each key of daskenv.yaml has a comment in the line before it."""
    lines = config.DEFAULTS_FILE.read_text(encoding="utf-8").splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"\s*[a-z-]+:", line):
            assert before.strip().startswith("#"), line
    assert yaml.safe_load("\n".join(lines))["daskenv"]["profile"] == "local"


def test_values_are_parsed_with_their_units() -> None:
    """Durations give seconds and sizes give bytes, from text or numbers."""
    with dask.config.set({"daskenv.timeouts.start": "2 minutes", "daskenv.local.worker-memory": 5}):
        assert config.seconds("timeouts.start") == 120
        assert config.size("local.worker-memory") == 5


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("timeouts.start", "soon", config.seconds),
        ("timeouts.start", None, config.seconds),
        ("local.worker-memory", "much", config.size),
        ("workers", -1, config.whole),
        ("workers", "2", config.whole),
        ("packages.pip-options", "--no-index", config.words),
    ],
)
def test_a_bad_value_is_one_sentence(key: str, value: object, read: Any) -> None:
    """The sentence holds the key and the value."""
    with (
        dask.config.set({f"daskenv.{key}": value}),
        pytest.raises(ConfigError, match=f"daskenv.{key} is {value!r}"),
    ):
        read(key)


def test_an_unknown_key_names_the_file_of_defaults() -> None:
    """Asking for a key that is not there points to daskenv.yaml."""
    with pytest.raises(ConfigError, match=r"daskenv\.yaml lists the keys"):
        config.get("no-such-key")


def test_profiles_become_environments() -> None:
    """A profile gives its kind's environment; what is asked for at the call wins."""
    with dask.config.set({"daskenv.profiles": {"team": TEAM}}):
        made = environment_for("team", image="a:1", adaptive_max_workers=5)
        assert "team" in config.profile_names()
    assert made == DaskGatewayEnvironment(
        "https://gateway.example.org", "jupyterhub", adaptive_max_workers=5, image="a:1"
    )


def test_kinds_become_environments() -> None:
    """Each kind, and a class's dotted path, works without a profile."""
    assert environment_for() == DaskGatewayEnvironment("local")
    assert environment_for("fargate", cpu=512) == DaskCloudProviderEnvironment("fargate", cpu=512)
    assert environment_for("distributed.LocalCluster").kind == "cloudprovider"
    assert environment_for("remote", address="tcp://h:1") == RemoteDaskEnvironment("tcp://h:1")
    with dask.config.set({"daskenv.gateway.address": "https://gateway.example.org"}):
        assert environment_for("gateway").gateway_address == "https://gateway.example.org"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("profiles", "asked", "part"),
    [
        ({}, "locl", "did you mean 'local'"),
        ({"team": TEAM}, "teem", "did you mean 'team'"),
        ({"team": {"image": "x"}}, "team", "needs a mapping with a 'kind'"),
        ({"team": "gateway"}, "team", "needs a mapping with a 'kind'"),
        ({"team": {"kind": "gatway"}}, "team", "did you mean 'gateway'"),
        (["team"], "team", "must map names"),
        ({"team": {"kind": "remote", "adress": "x"}}, "team", "give what is missing"),
    ],
)
def test_a_bad_profile_is_one_sentence(profiles: object, asked: str, part: str) -> None:
    """Damaged and mistyped profiles name the likely cause."""
    with (
        dask.config.set({"daskenv.profiles": profiles}),
        pytest.raises((ConfigError, UnknownNameError, EnvironmentValueError), match=part),
    ):
        environment_for(asked)
