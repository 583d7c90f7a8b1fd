"""The second example: a number of workers that follows the load."""

from dask_cloudprovider.aws import FargateCluster
from prefect import flow

from daskenv_lab import DaskCloudProviderEnvironment
from tests.documents.plain import get_sum, times_two

environment = DaskCloudProviderEnvironment(
    provider_class=FargateCluster,
    adaptive_min_workers=1,
    adaptive_max_workers=2,
    scheduler_cpu=256,
    scheduler_mem=512,
    worker_cpu=512,
    worker_mem=1024,
    rehearse=True,
)


@flow(name="Dask Cloud Provider Test", task_runner=environment.task_runner())
def double_and_add(x: tuple[int, ...] = (1, 2, 3)) -> int:
    """Double each, and add them up."""
    return get_sum.submit(times_two.map(x)).result()
