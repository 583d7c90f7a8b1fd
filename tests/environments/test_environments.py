"""Environments as values: what they accept, refuse, hide, and how they are written down."""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskenv_lab import (
    DaskCloudProviderEnvironment,
    DaskGatewayEnvironment,
    Environment,
    RemoteDaskEnvironment,
    Secret,
)
from daskenv_lab.environments import environment_of_kind, from_dict, reveal
from daskenv_lab.environments.secret import conceal, mask
from daskenv_lab.errors import EnvironmentValueError, SecretMissing


def size_by_length(parameters: dict[str, Any], provider_kwargs: dict[str, Any]) -> None:
    """Size a run's cluster by the length of its parameter ``x``, as in the source document."""
    provider_kwargs["n_workers"] = min(10, max(1, len(parameters["x"])))


EXAMPLES: list[Environment] = [
    DaskCloudProviderEnvironment("fargate", n_workers=4, image="ghcr.io/example/flows:1"),
    DaskCloudProviderEnvironment(
        "dask_cloudprovider.aws.ECSCluster",
        adaptive_min_workers=2,
        adaptive_max_workers=8,
        labels=["prod", "etl"],
        metadata={"team": "data"},
        executor_kwargs={"timeout": "60s"},
        subnets=["subnet-1", "subnet-2"],
        tags={"cost-centre": "42"},
    ),
    DaskCloudProviderEnvironment(
        "fargate", on_execute=size_by_length, environment={"A_TOKEN": "x"}
    ),
    DaskGatewayEnvironment(
        "https://gateway.example.org",
        {"type": "basic", "username": "ada", "password": "hunter2"},
        adaptive_max_workers=4,
        image="ghcr.io/example/flows:1",
        worker_cores=2,
    ),
    DaskGatewayEnvironment("local", n_workers=2, security=True),
    RemoteDaskEnvironment("tls://10.0.0.5:8786", security={"tls_ca_file": "/certs/ca.pem"}),
]


@pytest.mark.parametrize("environment", EXAMPLES, ids=lambda e: f"{e.kind}-{len(e.arguments())}")
def test_an_environment_survives_each_way_of_carrying_it(environment: Environment) -> None:
    """Writing down through JSON, pickling, copying and `replace` without changes all keep it."""
    written = json.loads(json.dumps(environment.to_dict()))
    assert from_dict(written) == environment
    assert from_dict(written).fingerprint == environment.fingerprint
    assert pickle.loads(pickle.dumps(environment)) == environment
    assert copy.deepcopy(environment) == environment
    assert environment.replace() == environment
    assert hash(environment.replace()) == hash(environment)


def test_different_environments_differ() -> None:
    """No two of the examples are equal or share a fingerprint."""
    assert len({e.fingerprint for e in EXAMPLES}) == len(EXAMPLES)
    assert all(a != b for i, a in enumerate(EXAMPLES) for b in EXAMPLES[:i])


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    """Another process with another hash seed finds the same fingerprint."""
    environment = DaskGatewayEnvironment("local", n_workers=2, options={"b", "a"})
    code = (
        "from daskenv_lab import DaskGatewayEnvironment as E;"
        "print(E('local', n_workers=2, options={'b', 'a'}).fingerprint)"
    )
    for seed in "12":
        out = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert out.stdout.strip() == environment.fingerprint


def test_environments_are_frozen() -> None:
    """Neither a field nor the provider's arguments can be changed in place."""
    environment = DaskCloudProviderEnvironment("fargate", cpu=512)
    with pytest.raises(dataclasses.FrozenInstanceError):
        environment.n_workers = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        environment.provider_kwargs["cpu"] = 1024  # type: ignore[index]


def test_the_caller_keeps_its_own_objects() -> None:
    """A mapping given to an environment is copied, and `arguments` gives copies again."""
    tags = {"a": "1"}
    environment = DaskCloudProviderEnvironment("fargate", tags=tags)
    tags["a"] = "2"
    environment.arguments()["tags"]["a"] = "3"
    assert environment.provider_kwargs["tags"] == {"a": "1"}


@pytest.mark.parametrize(
    ("low", "high", "bounds"),
    [(None, None, None), (None, 5, (1, 5)), (3, None, (3, 3)), (0, 5, (0, 5)), (2, 2, (2, 2))],
)
def test_the_rule_for_adaptive_bounds(
    low: int | None, high: int | None, bounds: tuple[int, int] | None
) -> None:
    """No minimum is 1 and no maximum is the minimum, for both kinds of environments."""
    for make in (DaskGatewayEnvironment, lambda **k: DaskCloudProviderEnvironment("fargate", **k)):
        made = make(adaptive_min_workers=low, adaptive_max_workers=high)
        assert made.adaptive == bounds


def test_a_class_its_path_and_its_short_name_are_one() -> None:
    """FargateCluster, both of its dotted paths' owner and 'fargate' give equal environments."""
    from dask_cloudprovider.aws import FargateCluster

    by_class = DaskCloudProviderEnvironment(FargateCluster)
    assert by_class == DaskCloudProviderEnvironment("fargate")
    assert by_class == DaskCloudProviderEnvironment("dask_cloudprovider.aws.FargateCluster")


def test_objects_of_dask_are_taken_apart() -> None:
    """A BasicAuth and a Security object give the same environment as plain mappings."""
    import distributed
    from dask_gateway.auth import BasicAuth

    by_object = DaskGatewayEnvironment("http://127.0.0.1:8000", BasicAuth("ada", "hunter2"))
    assert by_object == DaskGatewayEnvironment(
        "http://127.0.0.1:8000", {"type": "basic", "username": "ada", "password": "hunter2"}
    )
    security = distributed.Security(tls_ca_file="/ca.pem", require_encryption=True)
    remote = RemoteDaskEnvironment("tls://127.0.0.1:8786", security=security)
    again = distributed.Security(**remote.security)  # type: ignore[arg-type]
    assert again.tls_ca_file == "/ca.pem"
    assert again.require_encryption


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: DaskGatewayEnvironment(n_worker=3), "did you mean 'n_workers'"),
    (lambda: DaskGatewayEnvironment(gateway_adress="https://x"), "did you mean 'gateway_address'"),
    (lambda: DaskGatewayEnvironment("gateway.example.org"), "write 'https://gateway.example.org'"),
    (lambda: DaskGatewayEnvironment(n_workers=2, adaptive_max_workers=4), "keep n_workers"),
    (
        lambda: DaskGatewayEnvironment(adaptive_min_workers=4, adaptive_max_workers=2),
        "swap the two",
    ),
    (lambda: DaskGatewayEnvironment(adaptive_min_workers=0), "from 1 upwards"),
    (lambda: DaskGatewayEnvironment(n_workers=-1), "from 0 upwards"),
    (lambda: DaskGatewayEnvironment(n_workers=True), "whole number"),
    (lambda: DaskGatewayEnvironment(n_workers="3"), "n_workers='3'"),
    (lambda: DaskGatewayEnvironment(labels="prod"), "list of words"),
    (lambda: DaskGatewayEnvironment(image=3), "name of a container image"),
    (lambda: DaskGatewayEnvironment(auth=3), "auth as a int"),
    (lambda: DaskGatewayEnvironment(auth={"username": "x"}), "without 'type'"),
    (lambda: DaskGatewayEnvironment(on_start=print()), ""),
    (lambda: DaskGatewayEnvironment(on_execute=lambda: None), "on_execute(parameters"),
    (lambda: DaskGatewayEnvironment(on_exit="stop"), "without calling it"),
    (lambda: DaskGatewayEnvironment(security="tls"), "distributed.Security"),
    (lambda: DaskGatewayEnvironment(metadata=[1]), "mapping"),
    (lambda: DaskCloudProviderEnvironment("fargat"), "did you mean 'fargate'"),
    (lambda: DaskCloudProviderEnvironment(3), "is a int"),  # type: ignore[arg-type]
    (lambda: DaskCloudProviderEnvironment("a b.c"), "dotted path"),
    (lambda: RemoteDaskEnvironment("10.0.0.5"), "no port"),
    (lambda: RemoteDaskEnvironment(""), "takes an address"),
    (lambda: RemoteDaskEnvironment("tcp://h:1", n_workers=3), "'n_workers'"),
    (lambda: environment_of_kind("remote", {}), "give what is missing"),
    (lambda: from_dict({"schema": 1}), "no written environment"),
    (lambda: from_dict({"schema": 9, "kind": "gateway", "arguments": {}}), "update"),
    (lambda: from_dict({"schema": 1, "kind": "gatway", "arguments": {}}), "did you mean"),
]


@pytest.mark.parametrize(
    ("make", "part"),
    [b for b in BAD if b[1]],
    ids=lambda v: v[:40] if isinstance(v, str) else "make",
)
def test_bad_arguments_give_one_sentence_with_the_cause(
    make: Callable[[], object], part: str
) -> None:
    """Each wrong argument raises one line that holds the likely cause."""
    with pytest.raises(EnvironmentValueError) as caught:
        make()
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_providers_own_arguments_pass() -> None:
    """Options that are only a little like ours go through to the provider."""
    options = {"worker_cores": 2, "worker_threads": 1, "worker_memory": 4, "environment": {}}
    assert dict(DaskGatewayEnvironment("local", **options).cluster_options) == options


def test_what_has_no_written_form_says_so() -> None:
    """A lambda or a connection among the arguments is refused when written, not when used."""
    hooked = DaskGatewayEnvironment("local", on_start=lambda: None)
    with pytest.raises(EnvironmentValueError, match=r"on_start is .* move it to the top level"):
        hooked.to_dict()
    assert hooked.without_hooks().to_dict()
    opaque = DaskCloudProviderEnvironment("fargate", session=object())
    with pytest.raises(EnvironmentValueError, match="session holds a object"):
        opaque.to_dict()
    assert len(opaque.fingerprint) == 16


def test_secrets_show_nowhere() -> None:
    """A password, a token and a private key are in no repr, written form, label or error."""
    key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----"
    environment = DaskGatewayEnvironment(
        "https://gateway.example.org",
        {"type": "basic", "username": "ada", "password": "hunter2"},
        security={"tls_client_key": key},
        environment={
            "API_TOKEN": "hunter2",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "DATABASE": "postgresql://ada:hunter2@db.example.org/flows",
        },
        nested=[{"db_password": "hunter2"}],
    )
    assert "hunter2" not in repr(environment)
    assert "hunter2" not in json.dumps(environment.to_dict())
    assert {s.env_var for s in environment.secrets} >= {
        "DASKENV_GATEWAY_PASSWORD",
        "DASKENV_ENVIRONMENT_API_TOKEN",
        "DASKENV_NESTED_DB_PASSWORD",
    }
    for bad in (
        {"labels": {"password": "hunter2"}},
        {"gateway_address": "https://ada:hunter2@gateway.example.org"},
        {"gateway_address": "ftp://ada:hunter2@gateway.example.org"},
    ):
        with pytest.raises(EnvironmentValueError) as caught:
            DaskGatewayEnvironment(**bad)
        assert "hunter2" not in str(caught.value)


def test_secrets_are_read_when_needed() -> None:
    """The value at hand wins, then the process variable; a missing one is named."""
    auth = {"type": "basic", "password": Secret("PASSWORD")}
    assert reveal(auth, {"PASSWORD": "a"})["password"] == "a"
    assert reveal(Secret("PASSWORD", "b"), {"PASSWORD": "a"}) == "b"
    with pytest.raises(SecretMissing, match="PASSWORD, which is not set"):
        reveal(auth, {})


def test_ordinary_words_are_no_secrets() -> None:
    """Keys that only contain such a word, and empty values, stay as they are."""
    plain = {"tokenizer": "x", "author": "y", "keyboard": "z", "password": "", "n_tokens_left": 3}
    assert conceal(plain) == plain
    assert mask("tls://10.0.0.5:8786/a@b") == "tls://10.0.0.5:8786/a@b"


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.timedeltas()
    | st.frozensets(st.text())
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.dictionaries(st.sampled_from(["$map", "$secret", "plain"]), inner)
        | st.dictionaries(st.sampled_from(["password", "api_token"]), st.text())
    ),
    max_leaves=12,
)


@given(value=_TREES)
def test_any_tree_of_values_round_trips(value: Any) -> None:
    """Whatever plain values a provider takes come back from JSON equal and of the same types."""
    environment = DaskCloudProviderEnvironment("fargate", option=value)
    again = from_dict(json.loads(json.dumps(environment.to_dict())))
    assert again == environment
    assert dict(again.extra) == dict(environment.extra)


def test_equality_is_that_of_the_written_form() -> None:
    """NaN equals itself, True is not 1, and an enum's member is its value."""

    class Size(enum.StrEnum):
        SMALL = "small"

    class Zone(str, enum.Enum):  # noqa: UP042 - what people still write
        NORTH = "north"

    make = functools.partial(DaskCloudProviderEnvironment, "fargate")
    assert make(a=float("nan")) == make(a=float("nan"))
    assert make(a=True) != make(a=1)
    assert make(a=Size.SMALL, b=Zone.NORTH) == make(a="small", b="north")


def test_secrets_hide_in_any_container() -> None:
    """Tokens in a set are concealed, and a password in bytes is refused without showing it."""
    environment = DaskCloudProviderEnvironment("fargate", tokens={"hunter2"})
    assert "hunter2" not in repr(environment) + json.dumps(environment.to_dict())
    assert reveal(environment.arguments(), {})["tokens"] == {"hunter2"}
    with pytest.raises(EnvironmentValueError, match="given as bytes") as caught:
        DaskCloudProviderEnvironment("fargate", password=b"hunter2")
    assert "hunter2" not in str(caught.value)
