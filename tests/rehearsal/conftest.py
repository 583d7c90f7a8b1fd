"""A rehearsal without latency, and short ways to run tasks in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from daskenv_lab import rehearsal
from daskenv_lab.rehearsal import Rehearsal

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ecs-tasks.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}

Client = Callable[[str], Any]


def client_of(here: Rehearsal, service: str, **settings: Any) -> Any:
    """Make a botocore client that tries once only."""
    return botocore.session.Session().create_client(
        service,
        **{
            "region_name": here.region,
            "endpoint_url": here.endpoint,
            "aws_access_key_id": here.key_id,
            "aws_secret_access_key": here.secret,
            "config": Config(retries={"total_max_attempts": 1}, read_timeout=30),
            **settings,
        },
    )


@pytest.fixture(scope="session")
def here() -> Iterator[Rehearsal]:
    """Give a running rehearsal, and stop it at the end."""
    yield rehearsal.start(timeout=90, latency="none")
    rehearsal.stop(20)


@pytest.fixture
def any_client(here: Rehearsal) -> Callable[..., Any]:
    """Give a way to make clients with other keys and regions."""
    return lambda service, **settings: client_of(here, service, **settings)


@pytest.fixture(scope="session")
def client(here: Rehearsal) -> Client:
    """Give clients by service, made once."""
    made: dict[str, Any] = {}

    def of(service: str) -> Any:
        return made.setdefault(service, client_of(here, service))

    return of


@pytest.fixture
def account(client: Client) -> Iterator[Account]:
    """Give an account with roles, a group and a cluster; its tasks end with the test."""
    rehearsal.clear()
    account = Account(client)
    yield account
    rehearsal.clear()
    rehearsal.start(latency="none")
    account.stop_all()


class Account:
    """The least that RunTask needs, and short ways to call it."""

    cluster = "rehearsed"

    def __init__(self, client: Client) -> None:
        self.client = client
        self.ecs, self.ec2 = client("ecs"), client("ec2")
        self.ecs.create_cluster(
            clusterName=self.cluster, capacityProviders=["FARGATE", "FARGATE_SPOT"]
        )
        self.role = self._role()
        ours = [{"Name": "default-for-az", "Values": ["true"]}]
        subnets = self.ec2.describe_subnets(Filters=ours)["Subnets"]
        self.subnets = [s["SubnetId"] for s in subnets]
        vpc = subnets[0]["VpcId"]
        self.group = self.ec2.create_security_group(
            GroupName=f"g{time.monotonic_ns()}", Description="test", VpcId=vpc
        )["GroupId"]

    def define(self, command: list[str], **changes: Any) -> str:
        """Register a definition with one container named main."""
        container = {
            "name": "main",
            "image": "example/image:1",
            "command": command,
            "essential": True,
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-region": "us-east-1",
                    "awslogs-group": "/rehearsed",
                    "awslogs-stream-prefix": "p",
                    "awslogs-create-group": "true",
                },
            },
            **changes.pop("container", {}),
        }
        return self.ecs.register_task_definition(
            **{
                "family": "rehearsed",
                "cpu": "256",
                "memory": "512",
                "networkMode": "awsvpc",
                "requiresCompatibilities": ["FARGATE"],
                "executionRoleArn": self.role,
                "containerDefinitions": [container],
                **changes,
            }
        )["taskDefinition"]["taskDefinitionArn"]

    def request(self, definition: str, **changes: Any) -> dict[str, Any]:
        """Call RunTask and give its answer."""
        public = changes.pop("public", False)
        network = {
            "subnets": self.subnets,
            "securityGroups": [self.group],
            "assignPublicIp": "ENABLED" if public else "DISABLED",
        }
        return self.ecs.run_task(
            **{
                "cluster": self.cluster,
                "taskDefinition": definition,
                "launchType": "FARGATE",
                "networkConfiguration": {"awsvpcConfiguration": network},
                **changes,
            }
        )

    def run(self, definition: str, **changes: Any) -> str:
        """Run one task and give its ARN."""
        [task] = self.request(definition, **changes)["tasks"]
        return str(task["taskArn"])

    def see(self, arn: str) -> dict[str, Any]:
        """Describe a task, with its tags."""
        cluster = arn.split("/")[-2]
        [task] = self.ecs.describe_tasks(cluster=cluster, tasks=[arn], include=["TAGS"])["tasks"]
        return dict(task)

    def wait(self, arn: str, *statuses: str, limit: float = 20) -> dict[str, Any]:
        """Wait until a task has one of the statuses."""
        deadline = time.monotonic() + limit
        while (task := self.see(arn))["lastStatus"] not in statuses:
            assert time.monotonic() < deadline, f"still {task['lastStatus']}: {task}"
            assert task["lastStatus"] != "STOPPED", task.get("stoppedReason")
            time.sleep(0.05)
        return task

    def output(self, arn: str, group: str = "/rehearsed") -> str:
        """Give what a task wrote so far."""
        stream = f"p/main/{arn.split('/')[-1]}"
        events = self.client("logs").get_log_events(
            logGroupName=group, logStreamName=stream, startFromHead=True
        )["events"]
        return "\n".join(e["message"] for e in events)

    def ran(self, command: list[str], **changes: Any) -> tuple[dict[str, Any], str]:
        """Run a command to its end; give the task and what it wrote."""
        arn = self.run(self.define(command, **changes))
        return self.wait(arn, "STOPPED"), self.output(arn)

    def stop_all(self) -> None:
        """Stop every task of this account's clusters and wait until they are gone."""
        for cluster in self.ecs.list_clusters()["clusterArns"]:
            arns = self.ecs.list_tasks(cluster=cluster)["taskArns"]
            for arn in arns:
                self.ecs.stop_task(cluster=cluster, task=arn)
            for arn in arns:
                self.wait(arn, "STOPPED", limit=40)

    def allow(self, **permission: Any) -> None:
        """Add a TCP rule to the test's group."""
        port = permission.pop("port")
        self.ec2.authorize_security_group_ingress(
            GroupId=self.group,
            IpPermissions=[{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **permission}],
        )

    def _role(self) -> str:
        iam = self.client("iam")
        try:
            made = iam.create_role(RoleName="rehearsed", AssumeRolePolicyDocument=json.dumps(TRUST))
        except iam.exceptions.EntityAlreadyExistsException:
            made = iam.get_role(RoleName="rehearsed")
        return str(made["Role"]["Arn"])


@pytest.fixture
def account_at() -> Callable[[Rehearsal], Account]:
    """Give a way to make an account of another server."""

    def made(here: Rehearsal) -> Account:
        clients: dict[str, Any] = {}
        return Account(lambda s: clients.setdefault(s, client_of(here, s)))

    return made
