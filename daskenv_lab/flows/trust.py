"""Letting code in tasks connect to its own cluster, as its worker does.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import sys
from typing import Any

import cloudpickle
import dask.config

_CLIENT = "distributed.comm.tls.client"


def trust_own_cluster(worker: Any) -> None:
    """Make the worker's TLS credentials the default of Dask clients in its process.

    A worker has credentials of its own, and ``Client(address)`` inside a task, as prefect-dask's
    `get_dask_client` makes it, looks for a client's. They leave neither the process nor the
    cluster.
    """
    security = worker.security
    if not security.tls_worker_cert or dask.config.get(f"{_CLIENT}.cert", None):
        return
    dask.config.set(
        {
            f"{_CLIENT}.cert": security.tls_worker_cert,
            f"{_CLIENT}.key": security.tls_worker_key,
            "distributed.comm.tls.ca-file": security.tls_ca_file,
        }
    )


cloudpickle.register_pickle_by_value(sys.modules[__name__])
