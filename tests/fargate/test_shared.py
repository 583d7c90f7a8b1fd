"""The shared set of AWS resources: made once by however many, mended, found and removed."""

from __future__ import annotations

import json

import pytest

from daskenv_lab import rehearsal
from daskenv_lab.errors import ProviderError, StateError
from daskenv_lab.providers.fargate import shared
from daskenv_lab.providers.fargate.aws import Aws
from daskenv_lab.providers.fargate.roles import execution_policy

ROLES = ("daskenv-execution", "daskenv-task")
TOUCHED = ("ECS cluster", "role", "role", "log group", "security group")


def ensure(aws: Aws, given: dict | None = None, **more: object) -> shared.Shared:
    """Make the set without a word."""
    return shared.ensure(aws, given or {}, progress=lambda _: None, **more)  # type: ignore[arg-type]


def states(aws: Aws, given: dict | None = None) -> list[str]:
    """Give the state of each part."""
    return [r.state for r in shared.plan(aws, given or {})]


def test_a_plan_shows_what_is_missing_and_makes_nothing(empty_aws: Aws) -> None:
    """A dry run names each part, and reads only."""
    seen = shared.plan(empty_aws, {})
    assert [(r.kind, r.state) for r in seen] == [(kind, "missing") for kind in TOUCHED]
    reading = ("Describe", "Get", "List")
    assert all(name.split(":")[1].startswith(reading) for name in rehearsal.calls())
    assert shared.find(empty_aws, {}) is None


def test_the_set_is_made_and_found_and_made_only_once(empty_aws: Aws) -> None:
    """What is made can be found, and making it again makes nothing."""
    made = ensure(empty_aws)
    assert made.cluster_arn.endswith(":cluster/daskenv")
    assert made.execution_role_arn.endswith(":role/daskenv-execution")
    assert made.task_role_arn.endswith(":role/daskenv-task")
    assert made.log_group == "/daskenv"
    assert made.security_groups == (made.own_group,)
    assert len(made.subnets) >= 1
    assert states(empty_aws) == ["exists"] * 5
    rehearsal.forget_calls()
    assert ensure(empty_aws) == made
    reading = ("Describe", "Get", "List")
    assert all(name.split(":")[1].startswith(reading) for name in rehearsal.calls())


def test_finding_takes_five_calls(empty_aws: Aws) -> None:
    """Each cold start pays for it, so it stays small."""
    made = ensure(empty_aws)
    rehearsal.forget_calls()
    assert shared.find(empty_aws, {}) == made
    assert rehearsal.calls() == {
        "ecs:DescribeClusters": 1,
        "iam:GetRole": 2,
        "logs:DescribeLogGroups": 1,
        "ec2:DescribeSecurityGroups": 1,
    }


def test_each_part_carries_our_tags_and_the_users(empty_aws: Aws) -> None:
    """Anybody can see in the account what made it."""
    made = ensure(empty_aws, tags={"team": "blue", "createdBy": "nobody else"})
    tags = []
    [cluster] = empty_aws.call(
        "ecs", "describe_clusters", clusters=["daskenv"], include=["TAGS", "SETTINGS"]
    )["clusters"]
    tags.append({t["key"]: t["value"] for t in cluster["tags"]})
    assert set(cluster["capacityProviders"]) == {"FARGATE", "FARGATE_SPOT"}
    for name in ROLES:
        role = empty_aws.call("iam", "get_role", RoleName=name)["Role"]
        tags.append({t["Key"]: t["Value"] for t in role["Tags"]})
    [logs] = empty_aws.call("logs", "describe_log_groups", logGroupNamePrefix="/daskenv")[
        "logGroups"
    ]
    assert logs["retentionInDays"] == 30
    arn = logs["arn"].removesuffix(":*")
    tags.append(empty_aws.call("logs", "list_tags_for_resource", resourceArn=arn)["tags"])
    [group] = empty_aws.call(
        "ec2", "describe_security_groups", GroupIds=list(made.security_groups)
    )["SecurityGroups"]
    tags.append({t["Key"]: t["Value"] for t in group["Tags"]})
    wanted = {"createdBy": "daskenv_lab", "daskenv:shared": "1", "team": "blue"}
    assert all(wanted.items() <= t.items() for t in tags)


def test_the_group_is_open_within_and_to_nobody_else(empty_aws: Aws) -> None:
    """Workers and schedulers reach each other; the way out is open, as AWS makes it."""
    made = ensure(empty_aws)
    [group] = empty_aws.call(
        "ec2", "describe_security_groups", GroupIds=list(made.security_groups)
    )["SecurityGroups"]
    [rule] = group["IpPermissions"]
    assert rule["IpProtocol"] == "-1"
    assert [p["GroupId"] for p in rule["UserIdGroupPairs"]] == [made.own_group]
    assert not rule.get("IpRanges")
    assert [r["IpProtocol"] for r in group["IpPermissionsEgress"]] == ["-1"]


def test_the_roles_can_do_little(empty_aws: Aws) -> None:
    """Only ECS tasks take them; one starts tasks, and the other may do nothing."""
    made = ensure(empty_aws)
    account = made.task_role_arn.split(":")[4]
    found = empty_aws.call(
        "iam", "get_role_policy", RoleName="daskenv-execution", PolicyName="daskenv"
    )["PolicyDocument"]
    assert found == execution_policy(account=account, region=empty_aws.region)
    writing = [s for s in found["Statement"] if "logs:PutLogEvents" in s["Action"]]
    assert writing[0]["Resource"] == f"arn:aws:logs:*:{account}:log-group:/daskenv:*"
    for name in ROLES:
        role = empty_aws.call("iam", "get_role", RoleName=name)["Role"]
        [trust] = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert not list(
            empty_aws.pages("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=name)
        )
    assert not list(
        empty_aws.pages("iam", "list_role_policies", "PolicyNames", RoleName="daskenv-task")
    )


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (("iam", "delete_role_policy", {"PolicyName": "daskenv"}), 1),
        (("logs", "delete_retention_policy", {"logGroupName": "/daskenv"}), 3),
        (("ecs", "put_cluster_capacity_providers", {"capacityProviders": ["FARGATE"]}), 0),
    ],
)
def test_damage_is_seen_and_mended(empty_aws: Aws, damage: tuple, part: int) -> None:
    """Somebody who cleaned up by hand took away a piece."""
    ensure(empty_aws)
    service, operation, words = damage
    if service == "iam":
        words = {**words, "RoleName": "daskenv-execution"}
    if service == "ecs":
        words = {**words, "cluster": "daskenv", "defaultCapacityProviderStrategy": []}
    empty_aws.call(service, operation, **words)
    assert states(empty_aws)[part] == "damaged"
    ensure(empty_aws)
    assert states(empty_aws) == ["exists"] * 5


def test_a_closed_group_and_a_lost_subnet_are_mended(empty_aws: Aws) -> None:
    """The group is opened within again, and subnets are chosen again."""
    made = ensure(empty_aws)
    empty_aws.call(
        "ec2",
        "revoke_security_group_ingress",
        GroupId=made.own_group,
        IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": made.own_group}]}],
    )
    assert shared.find(empty_aws, {}) is None
    assert ensure(empty_aws) == made
    empty_aws.call(
        "ec2",
        "create_tags",
        Resources=[made.own_group],
        Tags=[{"Key": "daskenv:subnets", "Value": "subnet-0123456789abcdef0"}],
    )
    assert states(empty_aws)[4] == "damaged"
    assert ensure(empty_aws) == made


def test_what_is_given_is_not_looked_up(empty_aws: Aws) -> None:
    """With everything given there is no call at all."""
    given = {
        "cluster_arn": "arn:aws:ecs:us-east-1:123456789012:cluster/theirs",
        "execution_role_arn": "arn:aws:iam::123456789012:role/theirs",
        "task_role_arn": "arn:aws:iam::123456789012:role/theirs-too",
        "cloudwatch_logs_group": "/theirs",
        "security_groups": ["sg-1"],
        "subnets": "subnet-1",
        "vpc": None,
        "n_workers": 4,
    }
    assert shared.find(empty_aws, given) == shared.Shared(
        cluster_arn="arn:aws:ecs:us-east-1:123456789012:cluster/theirs",
        execution_role_arn="arn:aws:iam::123456789012:role/theirs",
        task_role_arn="arn:aws:iam::123456789012:role/theirs-too",
        log_group="/theirs",
        security_groups=("sg-1",),
        subnets=("subnet-1",),
        vpc=None,
        own_group=None,
    )
    assert ensure(empty_aws, given) == shared.find(empty_aws, given)
    assert states(empty_aws, given) == ["given"] * 5
    assert rehearsal.calls() == {}


def test_the_rest_is_made_beside_what_is_given(empty_aws: Aws) -> None:
    """A role of the user's takes the place of ours, and ours is not made."""
    own = "arn:aws:iam::123456789012:role/theirs"
    made = ensure(empty_aws, {"task_role_arn": own})
    assert made.task_role_arn == own
    assert states(empty_aws) == ["exists", "exists", "missing", "exists", "exists"]


def test_given_subnets_and_groups_are_completed(empty_aws: Aws) -> None:
    """The VPC of given subnets has our group; given groups go with their VPC's subnets."""
    whole = ensure(empty_aws)
    some = ensure(empty_aws, {"subnets": whole.subnets[:1]})
    assert (some.subnets, some.own_group) == (whole.subnets[:1], whole.own_group)
    assert ensure(empty_aws) == whole
    theirs = ensure(empty_aws, {"security_groups": [whole.own_group]})
    assert (theirs.subnets, theirs.vpc, theirs.own_group) == (whole.subnets, whole.vpc, None)


def test_a_set_can_be_in_another_vpc(empty_aws: Aws) -> None:
    """It is found there again without being told, as long as it is the only one."""
    vpc = empty_aws.call("ec2", "create_vpc", CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    try:
        with pytest.raises(ProviderError, match="has no subnets"):
            ensure(empty_aws, {"vpc": vpc})
        subnet = empty_aws.call("ec2", "create_subnet", VpcId=vpc, CidrBlock="10.9.1.0/24")[
            "Subnet"
        ]["SubnetId"]
        made = ensure(empty_aws, {"vpc": vpc})
        assert (made.vpc, made.subnets) == (vpc, (subnet,))
        assert shared.find(empty_aws, {}) == made
        assert shared.find(empty_aws, {"vpc": "default"}) is None
        by_default = ensure(empty_aws, {"vpc": "default"})
        assert by_default.vpc not in (None, vpc)
        assert shared.find(empty_aws, {}) == by_default
        removed = shared.remove(empty_aws, progress=lambda _: None)
        assert removed.count("security group daskenv") == 2
        empty_aws.call("ec2", "delete_subnet", SubnetId=subnet)
    finally:
        empty_aws.call("ec2", "delete_vpc", VpcId=vpc)


def test_throttling_is_waited_out(empty_aws: Aws) -> None:
    """AWS is busy for a moment; nothing is noticed but time."""
    rehearsal.order(rehearsal.Fault(kind="throttle", operation="iam:*", times=2))
    ensure(empty_aws)
    assert states(empty_aws) == ["exists"] * 5


def test_a_set_can_be_remembered(empty_aws: Aws) -> None:
    """It goes through JSON; what another version wrote is refused."""
    made = ensure(empty_aws)
    written = json.loads(json.dumps(made.to_dict()))
    assert shared.Shared.from_dict(written) == made
    for damaged in ({**written, "schema": 99}, {**written, "colour": "blue"}, {"schema": 1}):
        with pytest.raises(StateError, match="look them up again"):
            shared.Shared.from_dict(damaged)
