"""The fifth example: a Gateway with basic authentication and an image, registered."""

import os

from dask_gateway.auth import BasicAuth
from prefect import flow, task

from daskenv_lab import DaskGatewayEnvironment

environment = DaskGatewayEnvironment(
    gateway_address=os.environ["GATEWAY_ADDRESS"],
    auth=BasicAuth("ada", os.environ["GATEWAY_PASSWORD"]),
    image="ghcr.io/example/flows:1",
    n_workers=1,
    labels=["gateway"],
)


@task
def times_two(x: int) -> int:
    """Double a number."""
    return x * 2


@flow(name="Dask Gateway Test", task_runner=environment.task_runner())
def double_and_add(x: list[int]) -> int:
    """Double each, and add them up."""
    return sum(times_two.map(x).result())


if __name__ == "__main__":
    environment.register("gateway_registered.py:double_and_add", name="doc", work_pool_name="here")
