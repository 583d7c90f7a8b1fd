"""Start, scale, use and close a FargateCluster that is given no ARN; run by test_dask.py."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any

import dask
import distributed
from dask_cloudprovider.aws import FargateCluster

HERE = json.load(sys.stdin)


def under_their_new_names(params: dict[str, Any], **_: Any) -> None:
    """Mend the one trap that stops it today: distributed 2026.6 removed these scripts."""
    for override in params["overrides"]["containerOverrides"]:
        name, *rest = override["command"]
        module = f"distributed.cli.{name.replace('-', '_')}"
        override["command"] = ["python", "-m", module, *rest]


class Pointed(FargateCluster):
    """The class as it is, pointed at the rehearsal."""

    def _client(self, name: str) -> Any:
        event = "provide-client-params.ecs.RunTask"
        self.session.unregister(event, under_their_new_names)
        self.session.register(event, under_their_new_names)
        return self.session.create_client(
            name,
            region_name=HERE["region"],
            endpoint_url=HERE["endpoint"],
            aws_access_key_id=HERE["key_id"],
            aws_secret_access_key=HERE["secret"],
        )


def main() -> None:
    """Print what was seen, as JSON."""
    seen: dict[str, Any] = {}
    sizes = {"scheduler_cpu": 256, "scheduler_mem": 512, "worker_cpu": 256, "worker_mem": 1024}
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "60s"}),
        Pointed(n_workers=1, skip_cleanup=True, **sizes) as cluster,
    ):
        seen.update(cluster=cluster.cluster_arn, address=cluster.scheduler_address)
        with distributed.Client(cluster, timeout=60) as client:
            client.wait_for_workers(1, timeout=120)
            seen["result"] = client.submit(sum, [1, 2, 3]).result(timeout=120)
            cluster.scale(2)
            client.wait_for_workers(2, timeout=120)
            with urllib.request.urlopen(cluster.dashboard_link, timeout=10) as answer:
                seen["dashboard"] = answer.status
    print(json.dumps(seen), flush=True)
    # Its finalizers run when the interpreter ends, after the loop, and fail.
    os._exit(0)


if __name__ == "__main__":
    main()
