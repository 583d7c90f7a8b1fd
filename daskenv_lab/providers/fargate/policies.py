"""What an administrator must allow: one IAM policy to make the shared set, one to use it.

Which resources and conditions each action takes is from AWS's Service Authorization Reference,
one page for each service:
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
Where a statement has ``"Resource": "*"``, AWS knows no narrower one for these actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from daskenv_lab.errors import CommandError, did_you_mean
from daskenv_lab.providers.fargate.resource import (
    EXECUTION_ROLE,
    FAMILY_PREFIX,
    LOG_GROUP,
    NAME,
    SECRET_PREFIX,
    SHARED,
    TASK_ROLE,
    Given,
    partition,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["bootstrap", "use"]

LARGEST = 6_144
"""Characters, white space not counted, that IAM takes for a managed policy.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
"""

_ECS_TASKS = {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
_TAGGED = {"StringEquals": {f"aws:ResourceTag/{key}": value for key, value in SHARED.items()}}
_TAGGING = {"StringEquals": {f"aws:RequestTag/{key}": value for key, value in SHARED.items()}}


def policy(
    kind: Kind, account: str, region: str, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write a policy with the least that its bearer needs.

    Parameters
    ----------
    kind : str
        ``bootstrap``: to make, mend and remove the shared set. ``use``: to run clusters on it.
    account : str
        The account's twelve digits.
    region : str
        The region of the set.
    given : mapping, optional
        Arguments of the clusters; what the user has of their own is named in place of ours.

    Raises
    ------
    CommandError
        There is no such kind.

    Examples
    --------
    >>> policy("use", "123456789012", "eu-west-1")["Version"]
    '2012-10-17'
    """
    names = _Names.of(account, region, Given.of(given or {}))
    if kind == "bootstrap":
        statements = _bootstrap(names)
    elif kind == "use":
        statements = _use(names)
    else:
        raise CommandError(f"no policy is {kind!r}; {did_you_mean(kind, ('bootstrap', 'use'))}")
    return {"Version": "2012-10-17", "Statement": statements}


def actions(document: Mapping[str, Any]) -> set[str]:
    """List what a policy allows.

    Examples
    --------
    >>> "ecs:RunTask" in actions(policy("use", "123456789012", "eu-west-1"))
    True
    """
    return {action for statement in document["Statement"] for action in statement["Action"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """ARNs of what the statements are about."""

    ecs: str
    ec2: str
    logs: str
    secrets: str
    cluster: str
    roles: tuple[str, ...]
    log_group: str
    quotas: str
    principals: tuple[str, ...]
    linked_role: str
    own_cluster: bool

    @classmethod
    def of(cls, account: str, region: str, given: Given) -> _Names:
        arn = f"arn:{partition(region)}"
        ecs, logs = f"{arn}:ecs:{region}:{account}", f"{arn}:logs:{region}:{account}"
        roles = f"{arn}:iam::{account}:role"
        cluster = given.cluster_arn or NAME
        return cls(
            ecs=ecs,
            ec2=f"{arn}:ec2:{region}:{account}",
            logs=logs,
            secrets=f"{arn}:secretsmanager:{region}:{account}:secret:{SECRET_PREFIX}*",
            cluster=cluster if cluster.startswith("arn:") else f"{ecs}:cluster/{cluster}",
            roles=(
                given.execution_role_arn or f"{roles}/{EXECUTION_ROLE}",
                given.task_role_arn or f"{roles}/{TASK_ROLE}",
            ),
            log_group=f"{logs}:log-group:{given.cloudwatch_logs_group or LOG_GROUP}",
            quotas=f"{arn}:servicequotas:{region}:{account}:fargate/*",
            principals=(f"{roles}/*", f"{arn}:iam::{account}:user/*"),
            linked_role=f"{roles}/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS*",
            own_cluster=given.cluster_arn is not None,
        )

    @property
    def tasks(self) -> str:
        """All tasks of the cluster."""
        return f"{self.ecs}:task/{self.cluster.rsplit('/', 1)[-1]}/*"

    @property
    def definitions(self) -> str:
        return f"{self.ecs}:task-definition/{FAMILY_PREFIX}*:*"

    @property
    def in_cluster(self) -> dict[str, Any]:
        return {"ArnEquals": {"ecs:cluster": self.cluster}}


def _allow(
    sid: str,
    allowed: Sequence[str],
    resources: str | Sequence[str] = "*",
    condition: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(allowed),
        "Resource": resources if isinstance(resources, str) else list(resources),
    }
    return {**statement, "Condition": dict(condition)} if condition else statement


def _use(names: _Names) -> list[dict[str, Any]]:
    own = [
        _allow(
            "SeeMachinesOfOwnCluster",
            ["ecs:ListContainerInstances", "ecs:DescribeContainerInstances"],
            [names.cluster, f"{names.ecs}:container-instance/*"],
        )
    ]
    return [
        *_see(names),
        _allow("StartTasks", ["ecs:RunTask"], names.definitions, names.in_cluster),
        _allow("FindTasksInAllClusters", ["ecs:ListClusters", "ecs:ListTasks"]),
        _allow("KnowOurTasksByTheirTags", ["ecs:DescribeTasks"], f"{names.ecs}:task/*"),
        _allow("StopTasks", ["ecs:StopTask"], names.tasks),
        _allow(
            "MarkTasksWithOwnerAndName",
            ["ecs:TagResource", "ecs:UntagResource", "ecs:ListTagsForResource"],
            [names.tasks, names.definitions],
        ),
        _allow(
            "DescribeContainersToEcs",
            ["ecs:RegisterTaskDefinition", "ecs:DescribeTaskDefinition"],
        ),
        _allow("HandRolesToTasks", ["iam:PassRole"], names.roles, _ECS_TASKS),
        _allow(
            "KeepTlsMaterialOfClusters",
            [
                "secretsmanager:CreateSecret",
                "secretsmanager:DeleteSecret",
                "secretsmanager:DescribeSecret",
                "secretsmanager:GetSecretValue",
                "secretsmanager:PutSecretValue",
                "secretsmanager:TagResource",
                "secretsmanager:UntagResource",
            ],
            names.secrets,
        ),
        _allow("FindSecretsOfClusters", ["secretsmanager:ListSecrets"]),
        _allow(
            "OpenAndCloseOurGroupForCallers",
            ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"],
            f"{names.ec2}:security-group/*",
            _TAGGED,
        ),
        _allow("FindAddressesOfSchedulers", ["ec2:DescribeNetworkInterfaces"]),
        _allow(
            "ReadLogsOfTasks",
            ["logs:DescribeLogStreams", "logs:FilterLogEvents", "logs:GetLogEvents"],
            [names.log_group, f"{names.log_group}:*"],
        ),
        _allow("CheckThatImageExists", ["ecr:DescribeImages"]),
        _allow("CheckThatQuotaSuffices", ["servicequotas:GetServiceQuota"], names.quotas),
        _allow("CheckOwnPermissions", ["iam:SimulatePrincipalPolicy"], names.principals),
        *(own if names.own_cluster else ()),
    ]


def _see(names: _Names) -> list[dict[str, Any]]:
    """Allow what finds the shared set and examines it."""
    return [
        _allow("KnowTheAccount", ["sts:GetCallerIdentity", "ecs:ListAccountSettings"]),
        _allow("FindCluster", ["ecs:DescribeClusters"], names.cluster),
        _allow("FindRoles", ["iam:GetRole"], names.roles),
        _allow("FindLogGroup", ["logs:DescribeLogGroups"], f"{names.logs}:log-group:*"),
        _allow(
            "FindNetwork",
            [
                "ec2:DescribeRouteTables",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcAttribute",
                "ec2:DescribeVpcEndpoints",
                "ec2:DescribeVpcs",
            ],
        ),
    ]


def _bootstrap(names: _Names) -> list[dict[str, Any]]:
    groups = f"{names.ec2}:security-group/*"
    return [
        *_see(names),
        _allow(
            "MakeAndRemoveCluster",
            [
                "ecs:CreateCluster",
                "ecs:DeleteCluster",
                "ecs:PutClusterCapacityProviders",
                "ecs:TagResource",
            ],
            names.cluster,
        ),
        _allow(
            "LetEcsAttachNetworkInterfaces",
            ["iam:CreateServiceLinkedRole"],
            names.linked_role,
            {"StringEquals": {"iam:AWSServiceName": "ecs.amazonaws.com"}},
        ),
        _allow(
            "MakeAndRemoveRoles",
            [
                "iam:CreateRole",
                "iam:DeleteRole",
                "iam:DeleteRolePolicy",
                "iam:DetachRolePolicy",
                "iam:GetRolePolicy",
                "iam:ListAttachedRolePolicies",
                "iam:ListRolePolicies",
                "iam:PutRolePolicy",
                "iam:TagRole",
                "iam:UntagRole",
            ],
            names.roles,
        ),
        _allow(
            "MakeAndRemoveLogGroup",
            [
                "logs:CreateLogGroup",
                "logs:DeleteLogGroup",
                "logs:ListTagsForResource",
                "logs:PutRetentionPolicy",
                "logs:TagResource",
            ],
            [names.log_group, f"{names.log_group}:*"],
        ),
        _allow("MakeOurGroup", ["ec2:CreateSecurityGroup"], groups, _TAGGING),
        _allow("MakeOurGroupInAnyVpc", ["ec2:CreateSecurityGroup"], f"{names.ec2}:vpc/*"),
        _allow(
            "TagOurGroupWhenMade",
            ["ec2:CreateTags"],
            groups,
            {"StringEquals": {"ec2:CreateAction": "CreateSecurityGroup"}},
        ),
        _allow(
            "ChangeAndRemoveOurGroup",
            ["ec2:AuthorizeSecurityGroupIngress", "ec2:CreateTags", "ec2:DeleteSecurityGroup"],
            groups,
            _TAGGED,
        ),
        _allow("RefuseWhileTasksRun", ["ecs:ListTasks"], "*", names.in_cluster),
        _allow("NameTasksThatRun", ["ecs:DescribeTasks"], names.tasks),
        _allow(
            "FindOurTaskDefinitions",
            [
                "ecs:DeregisterTaskDefinition",
                "ecs:DescribeTaskDefinition",
                "ecs:ListTaskDefinitionFamilies",
                "ecs:ListTaskDefinitions",
            ],
        ),
        _allow("DeleteOurTaskDefinitions", ["ecs:DeleteTaskDefinitions"], names.definitions),
    ]
