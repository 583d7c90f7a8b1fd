"""Every fault that can be ordered, as a client sees it."""

from __future__ import annotations

import threading
import time

import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    ReadTimeoutError,
)

from daskenv_lab import rehearsal
from daskenv_lab.errors import EnvironmentValueError
from daskenv_lab.rehearsal import Fault
from tests.rehearsal.conftest import client_of
from tests.waiting import until

SLEEP = ["sleep", "300"]


def _code(call) -> str:
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_throttling_hits_the_next_calls_of_an_operation(account):
    """The given number of calls is refused, after those that pass, and other operations are not."""
    rehearsal.order(Fault(kind="throttle", operation="ecs:ListClusters", times=2, after=1))
    codes = [_code(account.ecs.list_clusters) for _ in range(4)]
    assert codes == ["", "ThrottlingException", "ThrottlingException", ""]
    assert rehearsal.faults() == []
    rehearsal.order(Fault(kind="throttle", operation="ec2:*"))
    assert _code(account.ec2.describe_vpcs) == "RequestLimitExceeded"
    assert _code(account.ecs.list_clusters) == ""
    assert [f.kind for f in rehearsal.faults()] == ["throttle"]
    rehearsal.clear()
    assert _code(account.ec2.describe_vpcs) == ""


def test_services_fail_and_deny_in_their_own_words(account):
    """5xx and want of permission arrive with each protocol's codes; dry runs are denied too."""
    rehearsal.order(Fault(kind="server-error", times=1))
    with pytest.raises(ClientError) as caught:
        account.ecs.list_clusters()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    dry = account.ec2.describe_vpcs
    assert _code(lambda: dry(DryRun=True)) == "DryRunOperation"
    rehearsal.order(Fault(kind="denied"))
    assert _code(lambda: dry(DryRun=True)) == "UnauthorizedOperation"
    assert _code(account.ecs.list_clusters) == "AccessDeniedException"
    assert _code(account.client("iam").list_roles) == "AccessDenied"


def test_the_api_can_be_down_and_slow(account):
    """Connections are dropped without an answer, or answered later; orders still arrive."""
    rehearsal.order(Fault(kind="down"))
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        account.ecs.list_clusters()
    rehearsal.clear()
    rehearsal.order(Fault(kind="slow", seconds=0.5, times=1))
    begun = time.monotonic()
    account.ecs.list_clusters()
    assert time.monotonic() - begun >= 0.5


@pytest.mark.parametrize(("kind", "effect"), [("hold-before", False), ("hold-after", True)])
def test_a_call_can_be_held_before_and_after_its_effect(account, kind, effect):
    """While the call is held, its effect is not there yet, or there already."""
    rehearsal.order(Fault(kind=kind, operation="ecs:CreateCluster", times=1, seconds=6))
    name = f"held-{kind}"
    call = threading.Thread(target=account.ecs.create_cluster, kwargs={"clusterName": name})
    call.start()
    until(lambda: rehearsal.held() == ["ecs:CreateCluster"])
    found = account.ecs.describe_clusters(clusters=[name])["clusters"]
    assert bool(found) is effect
    call.join(120)
    assert rehearsal.held() == []
    assert account.ecs.describe_clusters(clusters=[name])["clusters"]


@pytest.mark.parametrize(("kind", "effect"), [("hold-before", False), ("hold-after", True)])
def test_a_held_call_ends_when_its_caller_hangs_up(account, here, kind, effect):
    """The first kind never takes effect then."""
    rehearsal.order(Fault(kind=kind, operation="ecs:CreateCluster", times=1, seconds=60))
    hasty = client_of(here, "ecs", config=Config(retries={"total_max_attempts": 1}, read_timeout=3))
    with pytest.raises(ReadTimeoutError):
        hasty.create_cluster(clusterName=f"left-{kind}")
    until(lambda: rehearsal.held() == [])
    assert bool(account.ecs.describe_clusters(clusters=[f"left-{kind}"])["clusters"]) is effect


def test_run_task_fails_for_want_of_interfaces_and_capacity(account):
    """So many tasks are told as failures, and the others run."""
    definition = account.define(SLEEP)
    rehearsal.order(Fault(kind="no-interface", times=1))
    answer = account.request(definition, count=2)
    assert [f["reason"] for f in answer["failures"]] == ["RESOURCE:ENI"]
    assert len(answer["tasks"]) == 1
    rehearsal.order(Fault(kind="no-capacity", capacity_provider="FARGATE_SPOT"))
    spot = {"launchType": "", "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT"}]}
    answer = account.request(definition, **spot)
    assert answer["tasks"] == []
    assert answer["failures"][0]["reason"].startswith("Capacity is unavailable at this time")
    assert account.request(definition)["failures"] == []


def test_an_image_is_missing(account):
    """The task stops with CannotPullContainerError."""
    rehearsal.order(Fault(kind="no-image", image="example/*", times=1))
    task = account.wait(account.run(account.define(SLEEP)), "STOPPED")
    assert task["stoppedReason"].startswith("CannotPullContainerError")
    assert task["stopCode"] == "TaskFailedToStart"


def test_spot_takes_tasks_back(account):
    """Tasks of a family get SIGTERM and stop with Spot's words."""
    arn = account.run(account.define(SLEEP, family="taken"))
    other = account.run(account.define(SLEEP))
    for each in (arn, other):
        account.wait(each, "RUNNING")
    assert rehearsal.order(Fault(kind="spot", task="taken")) == [arn]
    task = account.wait(arn, "STOPPED")
    assert task["stopCode"] == "SpotInterruption"
    assert task["stoppedReason"] == "Your Spot Task was interrupted."
    assert task["containers"][0]["exitCode"] == 143
    assert account.see(other)["lastStatus"] == "RUNNING"


def test_another_key_is_refused_as_each_service_does(any_client):
    """Only the rehearsal's own access key is known."""
    for service, operation, code in [
        ("ecs", "list_clusters", "UnrecognizedClientException"),
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
        ("ec2", "describe_vpcs", "AuthFailure"),
    ]:
        client = any_client(service, aws_access_key_id="AKIAOTHER")
        assert _code(getattr(client, operation)) == code


def test_another_secret_is_refused(any_client):
    """The key's name is not enough: RunTask runs programs as this user."""
    for service, operation, code in [
        ("ecs", "list_clusters", "InvalidSignatureException"),
        ("sts", "get_caller_identity", "SignatureDoesNotMatch"),
        ("ec2", "describe_vpcs", "AuthFailure"),
    ]:
        client = any_client(service, aws_secret_access_key="guessed")
        assert _code(getattr(client, operation)) == code


def test_another_region_is_refused(any_client):
    """A rehearsal has one region, so that nothing is looked for in another."""
    client = any_client("ecs", region_name="eu-west-1")
    assert _code(client.list_clusters) == "InvalidSignatureException"


def test_faults_are_checked():
    """A misspelt kind names the nearest."""
    with pytest.raises(EnvironmentValueError, match="did you mean 'throttle'"):
        Fault(kind="throtle")
    with pytest.raises(EnvironmentValueError, match="times=0"):
        Fault(kind="throttle", times=0)
