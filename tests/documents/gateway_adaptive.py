"""The fourth example: behind a Dask Gateway, with adaptive scaling."""

import os

from prefect import flow

from daskenv_lab import DaskGatewayEnvironment
from tests.documents.plain import get_sum, times_two

environment = DaskGatewayEnvironment(
    gateway_address=os.environ["GATEWAY_ADDRESS"],
    auth={"type": "basic", "username": "ada", "password": os.environ["GATEWAY_PASSWORD"]},
    adaptive_min_workers=1,
    adaptive_max_workers=2,
    worker_cores=1,
)


@flow(name="Dask Gateway Test", task_runner=environment.task_runner())
def double_and_add(x: tuple[int, ...] = (1, 2, 3)) -> int:
    """Double each, and add them up."""
    return get_sum.submit(times_two.map(x)).result()
