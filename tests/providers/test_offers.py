"""What providers offer for a new cluster, told by real Gateways."""

from __future__ import annotations

import dask
import pytest

from daskenv_lab.environments import DaskGatewayEnvironment
from daskenv_lab.errors import AuthenticationFailed
from daskenv_lab.providers import provider_for
from daskenv_lab.providers.contract import Offer
from daskenv_lab.view.offers import Offers
from tests.providers.conftest import GatewayServer, StartGateway
from tests.waiting import until

pytestmark = pytest.mark.slow


def test_a_gateway_tells(gateway_server: GatewayServer) -> None:
    """Each option with its kind, its bounds and its default."""
    environment = DaskGatewayEnvironment(gateway_server.address, gateway_server.auth())
    assert provider_for(environment).offers() == (
        Offer(name="worker_cores", label="worker_cores", kind="whole", default=1, least=1, most=2),
        Offer(name="image", label="image", kind="text", default="plain"),
    )
    wrong = DaskGatewayEnvironment(gateway_server.address, gateway_server.auth("wrong"))
    with pytest.raises(AuthenticationFailed):
        provider_for(wrong).offers()


def test_the_embedded_gateway_tells_what_it_takes(state_dir: object) -> None:
    """All that is offered is an option of the server, and nothing is started for the question."""
    provider = provider_for(DaskGatewayEnvironment("local"))
    offers = provider.offers()
    assert [offer.name for offer in offers] == ["worker_threads", "worker_memory", "idle_timeout"]
    chosen = {offer.name: offer.default for offer in offers}
    environment = DaskGatewayEnvironment("local", n_workers=0, **chosen)
    started = provider_for(environment)
    ref = started.create("offers", timeout=300, progress=print, on_submitted=print)
    started.shutdown(ref, timeout=120)


def test_what_is_asked_in_a_thread(start_gateway: StartGateway) -> None:
    """The view model tells what is waited for, what came, and why nothing came."""
    server = start_gateway()
    told: list[str] = []
    offers = Offers(lambda: told.append("offers"))
    profile = {"kind": "gateway", "gateway_address": server.address, "auth": server.auth()}
    with dask.config.set({"daskenv.profiles.theirs": profile}):
        assert offers.of("theirs").offers == ()
        offers.ask("theirs")
        offers.ask("theirs")
        until(lambda: told)
        assert [offer.name for offer in offers.of("theirs").offers] == ["worker_cores", "image"]
        assert offers.of("theirs").sentence == ""
        server.kill()
        offers.ask("theirs")
        until(lambda: len(told) == 2)
        stopped = offers.of("theirs")
    assert stopped.failed
    assert server.address in stopped.sentence
    offers.ask("nowhere")
    until(lambda: len(told) == 3)
    assert "nowhere" in offers.of("nowhere").sentence
