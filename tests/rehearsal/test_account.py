"""What a new account holds."""

from __future__ import annotations

import ipaddress


def test_the_default_network_is_like_that_of_aws(account):
    """It has a VPC with host names, subnets, a route to the internet, and an open default group."""
    ec2 = account.ec2
    [vpc] = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    names = ec2.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute="enableDnsHostnames")
    assert names["EnableDnsHostnames"]["Value"] is True
    assert vpc["CidrBlock"] == "127.77.0.0/16"
    ours = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    subnets = ec2.describe_subnets(Filters=ours)["Subnets"]
    assert all(s["CidrBlock"].startswith("127.77.") and s["DefaultForAz"] for s in subnets)
    routes = [r for table in ec2.describe_route_tables()["RouteTables"] for r in table["Routes"]]
    out = [r for r in routes if r.get("DestinationCidrBlock") == "0.0.0.0/0"]
    assert out[0]["GatewayId"].startswith("igw-")
    [group] = ec2.describe_security_groups(
        Filters=[*ours, {"Name": "group-name", "Values": ["default"]}]
    )["SecurityGroups"]
    [rule] = group["IpPermissions"]
    assert rule["UserIdGroupPairs"][0]["GroupId"] == group["GroupId"]


def test_managed_policies_and_long_arns_are_there(account):
    """AWS's own policies can be attached, and tasks' ARNs name their cluster."""
    policy = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
    account.client("iam").attach_role_policy(RoleName="rehearsed", PolicyArn=policy)
    [setting] = account.ecs.list_account_settings(name="taskLongArnFormat", effectiveSettings=True)[
        "settings"
    ]
    assert setting["value"] == "enabled"
    arn = account.run(account.define(["sleep", "60"]))
    assert f":task/{account.cluster}/" in arn


def test_the_access_key_belongs_to_a_user(account, here):
    """STS and IAM tell of one and the same, whom a denied call names too."""
    caller = account.client("sts").get_caller_identity()["Arn"]
    iam = account.client("iam")
    [user] = iam.list_users()["Users"]
    assert user["Arn"] == caller == f"arn:aws:iam::{here.account}:user/rehearsal"
    [key] = iam.list_access_keys(UserName=user["UserName"])["AccessKeyMetadata"]
    assert key["AccessKeyId"] == here.key_id


def test_an_own_network_works_too(account):
    """Tasks of a VPC with other addresses still get one of this machine's."""
    ec2 = account.ec2
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    network = {"awsvpcConfiguration": {"subnets": [subnet]}}
    arn = account.run(account.define(["sleep", "60"]), networkConfiguration=network)
    task = account.wait(arn, "RUNNING")
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    address = ipaddress.ip_address(details["privateIPv4Address"])
    assert address in ipaddress.ip_network("127.77.240.0/20")
    assert details["subnetId"] == subnet
    account.ecs.stop_task(cluster=account.cluster, task=arn)
    account.wait(arn, "STOPPED")
    ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)
