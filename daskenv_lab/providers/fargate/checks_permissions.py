"""Looks at what the credentials may do, by calls that change nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import ProviderUnreachable
from daskenv_lab.providers.fargate import policies
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused, NotPermitted
from daskenv_lab.providers.fargate.checks import Check, Finding
from daskenv_lab.providers.fargate.resource import (
    EXECUTION_ROLE,
    FAMILY_PREFIX,
    LOG_GROUP,
    NAME,
    SECRET_PREFIX,
    TASK_ROLE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daskenv_lab.providers.fargate.checks import Case

_ASKERS = 8
_NOT_THERE = "none"
_OPTIONAL = ("ecr:", "secretsmanager:")
"""Without these a cluster runs too: with its secrets in its tasks' overrides, and a warning."""


@dataclass(frozen=True, slots=True)
class _Try:
    """One harmless call; any answer but a refusal for want of permission proves the permission."""

    action: str
    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def _tried(case: Case) -> Iterator[Finding]:
    tries = _tries(case)
    with ThreadPoolExecutor(_ASKERS, thread_name_prefix="daskenv-doctor") as pool:
        allowed = list(pool.map(lambda t: _allowed(case.account, t), tries))
    lacking = sorted({t.action for t, may in zip(tries, allowed, strict=True) if not may})
    yield _judged(case, "permissions to look", lacking, f"{len(tries)} operations were tried")


def _simulated(case: Case) -> Iterator[Finding]:
    what = "permissions to start and stop"
    if case.account.rehearsal:
        told = "not looked at, as a rehearsal does not evaluate policies"
        yield Finding(what=what, result="skipped", told=told)
        return
    assert case.caller is not None  # noqa: S101 - `examined` sees to it
    if case.caller.arn.endswith(":root"):
        yield Finding(what=what, result="good", told="the account's root user may do everything")
        return
    account, region = case.caller.account, case.account.region
    document = policies.policy("use", account, region, case.given)
    try:
        principal = _principal(case.account, case.caller.arn)
        lacking = sorted(set().union(*_ask(case.account, principal, document["Statement"])))
    except (AwsRefused, ProviderUnreachable) as error:
        why = error.reason if isinstance(error, AwsRefused) else str(error).partition(" (")[0]
        tried = {t.action for t in _tries(case)}
        untried = ", ".join(sorted(a for a in policies.actions(document) - tried if _changes(a)))
        yield Finding(
            what=what,
            result="skipped",
            told=f"IAM does not simulate them ({why}), and these cannot be tried "
            f"without doing them: {untried}",
            step="compare the credentials' policy with `daskenv bootstrap --policy use`",
        )
        return
    yield _judged(case, what, lacking, "IAM's simulator allows all that running clusters takes")


def _changes(action: str) -> bool:
    return not action.split(":")[1].startswith(("Describe", "Filter", "Get", "List"))


def _judged(case: Case, what: str, lacking: list[str], good: str) -> Finding:
    if not lacking:
        return Finding(what=what, result="good", told=good)
    needed = [action for action in lacking if not action.startswith(_OPTIONAL)]
    return Finding(
        what=what,
        result="bad" if needed else "warning",
        told=f"the credentials may not use {', '.join(lacking)}",
        step=f"ask an administrator for what {case.command('bootstrap --policy use')} prints",
    )


def _tries(case: Case) -> list[_Try]:
    given = case.given
    cluster = str(given.get("cluster_arn", NAME))
    group = str(given.get("cloudwatch_logs_group", LOG_GROUP))
    secret = {"SecretId": f"{SECRET_PREFIX}{_NOT_THERE}"}
    stream = {"logGroupName": group, "logStreamName": _NOT_THERE}
    roles = [
        str(given.get(argument, default)).rsplit("/", 1)[-1]
        for argument, default in (
            ("execution_role_arn", EXECUTION_ROLE),
            ("task_role_arn", TASK_ROLE),
        )
    ]
    dry = {"DryRun": True}
    return [
        _Try("ecs:DescribeClusters", "describe_clusters", {"clusters": [cluster]}),
        _Try("ecs:ListClusters", "list_clusters", {"maxResults": 1}),
        _Try("ecs:ListTasks", "list_tasks", {"cluster": cluster, "maxResults": 1}),
        _Try("ecs:DescribeTasks", "describe_tasks", {"cluster": cluster, "tasks": ["0" * 32]}),
        _Try(
            "ecs:DescribeTaskDefinition",
            "describe_task_definition",
            {"taskDefinition": f"{FAMILY_PREFIX}{_NOT_THERE}"},
        ),
        _Try("secretsmanager:ListSecrets", "list_secrets", {"MaxResults": 1}),
        _Try("secretsmanager:DescribeSecret", "describe_secret", secret),
        _Try("secretsmanager:GetSecretValue", "get_secret_value", secret),
        *(_Try("iam:GetRole", "get_role", {"RoleName": role}) for role in roles),
        _Try("logs:DescribeLogGroups", "describe_log_groups", {"limit": 1}),
        _Try("logs:GetLogEvents", "get_log_events", stream),
        _Try("ec2:DescribeNetworkInterfaces", "describe_network_interfaces", dry),
        _Try("ec2:DescribeRouteTables", "describe_route_tables", dry),
        _Try("ec2:DescribeSecurityGroups", "describe_security_groups", dry),
        _Try("ec2:DescribeSubnets", "describe_subnets", dry),
        _Try("ec2:DescribeVpcs", "describe_vpcs", dry),
        *_rules(case),
    ]


def _rules(case: Case) -> list[_Try]:
    """Try to open and close our group, dry: it must be there, as the permission is for its tags."""
    if case.place is None or not case.place.own_group or not case.place.groups:
        return []
    rule = {"IpProtocol": "tcp", "FromPort": 8786, "ToPort": 8787}
    whole = {
        "DryRun": True,
        "GroupId": case.place.groups[0]["GroupId"],
        "IpPermissions": [{**rule, "IpRanges": [{"CidrIp": "127.0.0.1/32"}]}],
    }
    return [
        _Try("ec2:AuthorizeSecurityGroupIngress", "authorize_security_group_ingress", whole),
        _Try("ec2:RevokeSecurityGroupIngress", "revoke_security_group_ingress", whole),
    ]


def _allowed(aws: Aws, one: _Try) -> bool:
    try:
        aws.call(one.action.split(":")[0], one.operation, **one.parameters)
    except NotPermitted:
        return False
    except AwsRefused:
        # DryRunOperation says yes, and so does whatever AWS says of a thing that is not there.
        return True
    return True


def _principal(aws: Aws, arn: str) -> str:
    """Give the ARN by which IAM knows whoever has the credentials; that of a role for a session."""
    if ":assumed-role/" not in arn:
        return arn
    name = arn.split("/")[1]
    return str(aws.call("iam", "get_role", RoleName=name)["Role"]["Arn"])


def _ask(aws: Aws, principal: str, statements: list[dict[str, Any]]) -> list[set[str]]:
    """Ask IAM's simulator about each statement; gives the actions that it denies."""

    def ask(statement: dict[str, Any]) -> set[str]:
        resources = statement["Resource"]
        several = [resources] if isinstance(resources, str) else resources
        # One resource in place of a pattern: what is simulated is a single request.
        samples = [r if r == "*" else r.replace("*", "1") for r in several]
        context = [
            {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
            for wanted in statement.get("Condition", {}).values()
            for key, value in wanted.items()
        ]
        results = aws.pages(
            "iam",
            "simulate_principal_policy",
            "EvaluationResults",
            PolicySourceArn=principal,
            ActionNames=statement["Action"],
            ResourceArns=samples,
            ContextEntries=context,
        )
        return {r["EvalActionName"] for r in results if r["EvalDecision"] != "allowed"}

    with ThreadPoolExecutor(_ASKERS, thread_name_prefix="daskenv-doctor") as pool:
        return list(pool.map(ask, statements))


TRIED = Check("permissions to look", _tried, ["caller"])
SIMULATED = Check("permissions to start and stop", _simulated, ["caller"])
