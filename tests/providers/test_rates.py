"""What a cluster costs: from a table with a date, which can be replaced."""

from __future__ import annotations

import dask
import pytest

from daskenv_lab import DaskCloudProviderEnvironment, DaskGatewayEnvironment
from daskenv_lab.errors import ConfigError
from daskenv_lab.prices import Task, fargate_rate, worker_hour_rate
from daskenv_lab.providers import provider_for
from daskenv_lab.providers.fargate.billing import rate

SIZE = Task(cpu=1024, memory=4096)


def test_a_task_is_billed_by_cpu_and_memory() -> None:
    """One vCPU and 4 GB in us-east-1, as the table of March 2026 has them."""
    found = fargate_rate("us-east-1", scheduler=None, worker=SIZE)
    assert found.worker == pytest.approx(0.04048 + 4 * 0.004445)
    assert found.base == 0
    assert found.source == "Fargate in us-east-1, prices of 2026-03"


def test_arm_and_spot_are_cheaper() -> None:
    """Each by its own figure."""
    arm = Task(cpu=1024, memory=4096, arm=True)
    spot = Task(cpu=1024, memory=4096, spot=True)
    plain, on_arm, on_spot = (
        fargate_rate("us-east-1", scheduler=None, worker=task).worker for task in (SIZE, arm, spot)
    )
    assert on_arm == pytest.approx(0.03238 + 4 * 0.00356)
    assert on_spot == pytest.approx(0.3 * plain)


def test_a_region_without_prices_is_told() -> None:
    """The figure is another region's, and says so."""
    assert "none for mars-1" in fargate_rate("mars-1", scheduler=SIZE, worker=SIZE).source


def test_an_environment_knows_its_sizes() -> None:
    """The defaults are those of the class: a scheduler of 1 vCPU, workers of 4 vCPU and 16 GB."""
    found = rate(DaskCloudProviderEnvironment("fargate", rehearse=True), "us-east-1")
    assert found is not None
    assert found.hourly(2) == pytest.approx(
        (0.04048 + 4 * 0.004445) + 2 * (4 * 0.04048 + 16 * 0.004445)
    )
    assert "the rehearsal costs nothing" in found.source
    own = DaskCloudProviderEnvironment("fargate", worker_task_definition_arn="arn:aws:ecs:x")
    assert rate(own, "us-east-1") is None


def test_a_gateway_costs_what_the_user_says() -> None:
    """And the embedded one nothing."""
    gateway = provider_for(DaskGatewayEnvironment("https://gateway.example.org"))
    assert gateway.rate() is None
    with dask.config.set({"daskenv.prices.worker-hour": 0.25}):
        found = gateway.rate()
    assert found is not None
    assert found.hourly(4) == 1.0
    local = provider_for(DaskGatewayEnvironment("local")).rate()
    assert local is not None
    assert local.hourly(100) == 0


@pytest.mark.parametrize("price", ["cheap", -1, True])
def test_a_price_that_is_none_is_refused(price: object) -> None:
    """The key and the value are named."""
    with (
        dask.config.set({"daskenv.prices.worker-hour": price}),
        pytest.raises(ConfigError, match=r"prices\.worker-hour"),
    ):
        worker_hour_rate()
    with (
        dask.config.set({"daskenv.prices.fargate": price}),
        pytest.raises(ConfigError, match="as-of"),
    ):
        fargate_rate("us-east-1", scheduler=SIZE, worker=SIZE)
