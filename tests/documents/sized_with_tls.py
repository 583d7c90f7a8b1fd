"""The third example: `on_execute` sizes the cluster by a parameter, and TLS of one's own.

The document's ``min(1, max(10, …))`` is always 1; this is what it meant.
"""

import os
from typing import Any

from dask_cloudprovider.aws import FargateCluster
from distributed import Security
from prefect import flow

from daskenv_lab import DaskCloudProviderEnvironment
from tests.documents.plain import get_sum, times_two


def on_execute(parameters: dict[str, Any], provider_kwargs: dict[str, Any]) -> None:
    """Ask for a worker for each number, from one to ten."""
    provider_kwargs["n_workers"] = max(1, min(10, len(parameters["x"])))


folder = os.environ["TLS_FOLDER"]
tls = [f"--tls-ca-file={folder}/cert.pem", f"--tls-cert={folder}/cert.pem"]
tls += [f"--tls-key={folder}/key.pem"]

environment = DaskCloudProviderEnvironment(
    provider_class=FargateCluster,
    security=Security(
        tls_ca_file=f"{folder}/cert.pem",
        tls_client_cert=f"{folder}/cert.pem",
        tls_client_key=f"{folder}/key.pem",
        require_encryption=True,
    ),
    scheduler_extra_args=tls,
    worker_extra_args=tls,
    on_execute=on_execute,
    scheduler_cpu=256,
    scheduler_mem=512,
    worker_cpu=512,
    worker_mem=1024,
    rehearse=True,
)


@flow(name="Dask Cloud Provider Test", task_runner=environment.task_runner())
def double_and_add(x: tuple[int, ...] = (1, 2)) -> tuple[int, int]:
    """Double each, add them up, and count the workers."""
    from daskenv_lab.flows.prefect3 import current_runner

    total = get_sum.submit(times_two.map(x)).result()
    client = current_runner().client
    client.wait_for_workers(len(x), timeout=60)
    return total, len(client.scheduler_info(n_workers=-1)["workers"])
