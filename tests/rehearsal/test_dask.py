"""dask-cloudprovider's own FargateCluster, and Dask's programs under kill and throttle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import distributed
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SCRIPT = Path(__file__).with_name("fargate_from_nothing.py")
SCHEDULER = ["python", "-m", "distributed.cli.dask_scheduler"]
WORKER = ["python", "-m", "distributed.cli.dask_worker", "--memory-limit", "0"]


def test_fargate_cluster_starts_scales_computes_and_closes(here, account):
    """Without any ARN given, through public addresses, as users have it."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        input=json.dumps(here.to_dict()),
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert (seen["result"], seen["dashboard"]) == (6, 200)
    assert seen["address"].startswith("tcp://127.78.")
    assert account.ecs.list_tasks(cluster=seen["cluster"])["taskArns"] == []


def test_schedulers_and_workers_as_tasks(account):
    """A worker that is started with a scheduler's private address serves a client."""
    account.allow(port=8786, UserIdGroupPairs=[{"GroupId": account.group}])
    account.allow(port=8786, IpRanges=[{"CidrIp": "127.0.0.1/32"}])
    arn = account.run(account.define(SCHEDULER), public=True)
    task = account.wait(arn, "RUNNING")
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    address = details["privateIPv4Address"]
    worker = account.run(account.define([*WORKER, f"tcp://{address}:8786"], memory="1024"))
    public = address.replace("127.77.", "127.78.")
    with distributed.Client(f"tcp://{public}:8786", timeout=60) as client:
        client.wait_for_workers(1, timeout=120)
        assert client.submit(sum, [1, 2]).result(timeout=120) == 3
        [name] = client.scheduler_info()["workers"]
        # What the worker listens on is its own address, and not this machine's.
        assert name.startswith("tcp://127.77.")
        assert f"tcp://{address}:" not in name
        account.ecs.stop_task(cluster=account.cluster, task=worker)
        told = account.wait(worker, "STOPPED", limit=40)
    assert told["stopCode"] == "UserInitiated"
    assert "Worker" in account.output(worker)
