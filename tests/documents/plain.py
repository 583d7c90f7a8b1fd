"""The first example of Prefect 0.x's DaskCloudProviderEnvironment: a fixed number of workers."""

from dask_cloudprovider.aws import FargateCluster
from prefect import flow, task

from daskenv_lab import DaskCloudProviderEnvironment

environment = DaskCloudProviderEnvironment(
    provider_class=FargateCluster,
    n_workers=1,
    scheduler_cpu=256,
    scheduler_mem=512,
    worker_cpu=512,
    worker_mem=1024,
    rehearse=True,
)


@task
def times_two(x: int) -> int:
    """Double a number."""
    return x * 2


@task
def get_sum(x_list: list[int]) -> int:
    """Add numbers up."""
    return sum(x_list)


@flow(name="Dask Cloud Provider Test", task_runner=environment.task_runner())
def double_and_add(x: tuple[int, ...] = (1, 2, 3)) -> int:
    """Double each, and add them up."""
    return get_sum.submit(times_two.map(x)).result()
