"""The two roles of our tasks: what ECS may do for them, and what their code may do."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from daskenv_lab.providers.fargate.aws import Aws, AwsRefused
from daskenv_lab.providers.fargate.resource import (
    EXECUTION_ROLE,
    LAYOUT,
    LOG_GROUP,
    SECRET_PREFIX,
    Resource,
    is_shared,
    partition,
)
from daskenv_lab.providers.fargate.tags import as_list, from_list

if TYPE_CHECKING:
    from collections.abc import Mapping

_POLICY = "daskenv"
_USED_IN = "daskenv:in:"
"""How the tags begin that say in which regions a role is whole: roles belong to all regions."""

_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "EcsTasksTakeThisRole",
            "Effect": "Allow",
            "Principal": {"Service": "ecs-tasks.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


@dataclass(frozen=True, slots=True)
class Role:
    """A role of the shared set, by its name."""

    name: str

    def look(self, aws: Aws, *, closely: bool) -> Resource:
        """See how it is; `closely` also reads its policy."""
        seen = Resource(kind="role", name=self.name, state="missing")
        try:
            role = aws.call("iam", "get_role", RoleName=self.name)["Role"]
        except AwsRefused as refused:
            if refused.code != "NoSuchEntity":
                raise
            return seen
        tags = from_list(role.get("Tags", ()))
        seen = replace(seen, identifier=role["Arn"], state="exists", made_at=role.get("CreateDate"))
        if not is_shared(tags):
            return replace(seen, state="foreign", note="without our tags")
        layout = tags.get(f"{_USED_IN}{aws.region}", "0")
        if not layout.isdecimal() or int(layout) < LAYOUT:
            return replace(seen, state="damaged", note=f"not finished for {aws.region}")
        if closely and self._wanted(aws, role["Arn"]) != self._written(aws):
            return replace(seen, state="damaged", note="its policy is not ours")
        return seen

    def mend(self, aws: Aws, seen: Resource, tags: Mapping[str, str]) -> None:
        """Make it, or write its policy again."""
        arn = seen.identifier
        if arn is None:
            arn = aws.call(
                "iam",
                "create_role",
                RoleName=self.name,
                AssumeRolePolicyDocument=json.dumps(_TRUST),
                Description="Dask clusters of daskenv_lab",
                Tags=as_list(tags, upper=True),
            )["Role"]["Arn"]
        if wanted := self._wanted(aws, str(arn)):
            aws.call(
                "iam",
                "put_role_policy",
                RoleName=self.name,
                PolicyName=_POLICY,
                PolicyDocument=json.dumps(wanted),
            )
        # Last, so that a role that has it is whole.
        whole = {f"{_USED_IN}{aws.region}": str(LAYOUT)}
        aws.call("iam", "tag_role", RoleName=self.name, Tags=as_list(whole, upper=True))

    def remove(self, aws: Aws, seen: Resource) -> bool:  # noqa: ARG002 - the name says it all
        """Remove it, with all that was added to it, unless another region uses it."""
        here = f"{_USED_IN}{aws.region}"
        tags = from_list(aws.call("iam", "get_role", RoleName=self.name)["Role"].get("Tags", ()))
        if any(key.startswith(_USED_IN) and key != here for key in tags):
            aws.call("iam", "untag_role", RoleName=self.name, TagKeys=[here])
            return False
        for name in aws.pages("iam", "list_role_policies", "PolicyNames", RoleName=self.name):
            aws.call("iam", "delete_role_policy", RoleName=self.name, PolicyName=name)
        for policy in aws.pages(
            "iam", "list_attached_role_policies", "AttachedPolicies", RoleName=self.name
        ):
            aws.call("iam", "detach_role_policy", RoleName=self.name, PolicyArn=policy["PolicyArn"])
        aws.call("iam", "delete_role", RoleName=self.name)
        return True

    def _wanted(self, aws: Aws, arn: str) -> dict[str, Any]:
        if self.name != EXECUTION_ROLE:
            return {}
        return execution_policy(account=arn.split(":")[4], region=aws.region)

    def _written(self, aws: Aws) -> dict[str, Any]:
        if self.name != EXECUTION_ROLE:
            return {}
        try:
            found = aws.call("iam", "get_role_policy", RoleName=self.name, PolicyName=_POLICY)[
                "PolicyDocument"
            ]
        except AwsRefused as refused:
            if refused.code != "NoSuchEntity":
                raise
            return {}
        return dict(found)


def execution_policy(*, account: str, region: str) -> dict[str, Any]:
    """Write what ECS may do to start a task, in any region of the account.

    It is the managed policy ``AmazonECSTaskExecutionRolePolicy`` with its log groups narrowed to
    ours, and reading our secrets, as the ECS developer guide has it:
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_execution_IAM_role.html
    """
    arn = f"arn:{partition(region)}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "PullImages",
                "Effect": "Allow",
                "Action": [
                    "ecr:GetAuthorizationToken",
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:GetDownloadUrlForLayer",
                    "ecr:BatchGetImage",
                ],
                "Resource": "*",
            },
            {
                "Sid": "WriteLogs",
                "Effect": "Allow",
                "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
                "Resource": f"{arn}:logs:*:{account}:log-group:{LOG_GROUP}:*",
            },
            {
                "Sid": "ReadSecretsOfClusters",
                "Effect": "Allow",
                "Action": "secretsmanager:GetSecretValue",
                "Resource": f"{arn}:secretsmanager:*:{account}:secret:{SECRET_PREFIX}*",
            },
        ],
    }
