"""A Gateway that is down, refuses, never starts a cluster, or dies while we wait."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import pytest

from daskenv_lab.cluster import ClusterRef
from daskenv_lab.environments import DaskGatewayEnvironment
from daskenv_lab.errors import (
    AuthenticationFailed,
    ClusterGone,
    ClusterStartError,
    ConfigError,
    ProviderUnreachable,
    SecretMissing,
    WaitTimeout,
)
from daskenv_lab.providers import provider_for

from .conftest import PASSWORD, GatewayServer, StartGateway

LIMIT = 120.0
SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


def _create(environment: DaskGatewayEnvironment, timeout: float = LIMIT) -> ClusterRef:
    return provider_for(environment).create(
        "dev", timeout=timeout, progress=lambda _: None, on_submitted=lambda _: None
    )


def test_a_gateway_that_is_down() -> None:
    """Nothing listens: the address is named, at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ProviderUnreachable, match=address):
            _create(DaskGatewayEnvironment(address, {"type": "basic", "username": "ada"}))
    assert time.monotonic() - began < LIMIT / 2


def test_a_gateway_that_says_nothing() -> None:
    """Something accepts the connection and never answers: the time limit holds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(WaitTimeout, match="does not answer"):
            _create(DaskGatewayEnvironment(address, "basic"), timeout=1)


def test_no_address_at_all() -> None:
    """Without an address anywhere, the error says where to put one."""
    with pytest.raises(ConfigError, match="gateway_address"):
        provider_for(DaskGatewayEnvironment())


@pytest.mark.slow
def test_a_wrong_password(gateway_server: GatewayServer) -> None:
    """The user is named, the password is not, and the next step is."""
    environment = DaskGatewayEnvironment(gateway_server.address, gateway_server.auth("wr0ng-one"))
    with pytest.raises(AuthenticationFailed, match="'ada'") as caught:
        _create(environment)
    assert "wr0ng-one" not in _everything(caught.value)
    assert "password" in str(caught.value)


def test_an_authentication_that_cannot_be_made() -> None:
    """A class that does not exist, or arguments that do not fit, are one sentence."""
    for auth in ("no.such.Auth", {"type": "basic", "realm": "x"}, {"type": "builtins.dict"}):
        with pytest.raises(AuthenticationFailed, match="basic"):
            provider_for(DaskGatewayEnvironment("http://127.0.0.1:1", auth))


def test_a_secret_that_is_not_set() -> None:
    """A password that is to be read from an unset variable names the variable."""
    environment = DaskGatewayEnvironment("http://127.0.0.1:1", {"type": "basic", "password": "x"})
    written = environment.to_dict()
    from daskenv_lab.environments import from_dict

    with pytest.raises(SecretMissing, match="DASKENV_GATEWAY_PASSWORD"):
        provider_for(from_dict(written))


@pytest.mark.slow
def test_options_that_the_gateway_does_not_take(gateway_server: GatewayServer) -> None:
    """An unknown option names the nearest, and a bad value gets the server's own message."""
    auth = gateway_server.auth()
    with pytest.raises(ClusterStartError, match="did you mean 'worker_cores'"):
        _create(DaskGatewayEnvironment(gateway_server.address, auth, worker_core=1))
    with pytest.raises(ClusterStartError, match="worker_cores must be <= 2"):
        _create(DaskGatewayEnvironment(gateway_server.address, auth, worker_cores=9))
    with pytest.raises(ClusterStartError, match="must be an integer"):
        _create(DaskGatewayEnvironment(gateway_server.address, auth, worker_cores="two"))


@pytest.mark.slow
def test_a_cluster_that_nobody_knows(gateway_server: GatewayServer) -> None:
    """A reference to a cluster of another time is gone; stopping it is fine."""
    environment = DaskGatewayEnvironment(gateway_server.address, gateway_server.auth())
    provider = provider_for(environment)
    for name in ("0" * 32, "no such", "../clusters/", "a?b=c", "é"):
        ref = ClusterRef(provider="gateway", id=name, location=gateway_server.address)
        with pytest.raises((ClusterGone, ProviderUnreachable)):
            provider.connect(ref, timeout=5)
    provider.shutdown(
        ClusterRef(provider="gateway", id="0" * 32, location=gateway_server.address), timeout=5
    )


@pytest.mark.slow
def test_a_cluster_that_never_starts(start_gateway: StartGateway) -> None:
    """The time limit ends the waiting with the last state, and the cluster is stopped."""
    server = start_gateway(SLEEPS)
    environment = DaskGatewayEnvironment(server.address, server.auth())
    told: list[str] = []
    submitted: list[ClusterRef] = []
    provider = provider_for(environment)
    with pytest.raises(WaitTimeout, match="still pending after 5 s"):
        provider.create("dev", timeout=5, progress=told.append, on_submitted=submitted.append)
    assert len(submitted) == 1
    assert any("pending" in sentence for sentence in told)
    assert provider.find() == []
    with pytest.raises(ClusterGone):
        provider.connect(submitted[0], timeout=LIMIT)


@pytest.mark.slow
def test_a_cluster_that_fails(start_gateway: StartGateway) -> None:
    """A scheduler that ends at once is a failed start, long before the time limit."""
    server = start_gateway([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(ClusterStartError, match="never ran"):
        _create(DaskGatewayEnvironment(server.address, server.auth()), timeout=60)


@pytest.mark.slow
def test_a_gateway_that_dies_while_we_wait(start_gateway: StartGateway) -> None:
    """It is noticed within the time limit, and the address is named."""
    server = start_gateway(SLEEPS)
    environment = DaskGatewayEnvironment(server.address, server.auth())

    def kill_soon(_: ClusterRef) -> None:
        threading.Timer(0.5, server.kill).start()

    began = time.monotonic()
    with pytest.raises(ProviderUnreachable, match=server.address):
        provider_for(environment).create(
            "dev", timeout=LIMIT, progress=lambda _: None, on_submitted=kill_soon
        )
    assert time.monotonic() - began < LIMIT * 0.9


@pytest.mark.slow
def test_an_interrupted_start_leaves_nothing(start_gateway: StartGateway) -> None:
    """Ctrl-C while a cluster is pending stops that cluster."""
    server = start_gateway(SLEEPS)
    provider = provider_for(DaskGatewayEnvironment(server.address, server.auth()))

    def interrupt(sentence: str) -> None:
        if "pending" in sentence:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        provider.create("dev", timeout=120, progress=interrupt, on_submitted=lambda _: None)
    assert provider.find() == []


@pytest.mark.slow
def test_the_password_is_nowhere(gateway_server: GatewayServer, state_dir: Path) -> None:
    """No repr, message or file of ours holds the password."""
    environment = DaskGatewayEnvironment(gateway_server.address, gateway_server.auth())
    provider = provider_for(environment)
    assert PASSWORD not in repr(environment)
    assert PASSWORD not in repr(vars(provider))
    ref = ClusterRef(provider="gateway", id="f" * 32, location=gateway_server.address)
    with pytest.raises(ClusterGone) as caught:
        provider.connect(ref, timeout=5)
    assert PASSWORD not in _everything(caught.value)
    if state_dir.exists():
        found = subprocess.run(
            ["grep", "-rl", PASSWORD, str(state_dir)], capture_output=True, check=False, timeout=120
        )
        assert found.stdout == b""


def test_dask_configuration_names_the_gateway() -> None:
    """Without arguments, Dask's own `gateway:` keys say where and who."""
    keys = {
        "gateway.address": "http://127.0.0.1:9",
        "gateway.auth.type": "basic",
        "gateway.auth.kwargs": {"username": "bob", "password": "b"},
    }
    with dask.config.set(keys), pytest.raises(ProviderUnreachable, match=r"http://127\.0\.0\.1:9"):
        provider_for(DaskGatewayEnvironment()).find()


def _everything(error: BaseException | None) -> str:
    text = ""
    while error is not None:
        text += repr(error) + str(error)
        error = error.__cause__ or error.__context__
    return text
