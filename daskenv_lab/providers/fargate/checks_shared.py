"""Looks at the shared set of resources, and whether ECS may take the roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskenv_lab.providers.fargate import shared
from daskenv_lab.providers.fargate.aws import AwsRefused, NotPermitted
from daskenv_lab.providers.fargate.checks import Check, Finding
from daskenv_lab.providers.fargate.resource import EXECUTION_ROLE, TASK_ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daskenv_lab.providers.fargate.checks import Case
    from daskenv_lab.providers.fargate.resource import Resource

_ECS_TASKS = "ecs-tasks.amazonaws.com"
_WHAT = "shared resources"
_ROLES = {"execution_role_arn": EXECUTION_ROLE, "task_role_arn": TASK_ROLE}


def _shared_set(case: Case) -> Iterator[Finding]:
    try:
        seen = shared.plan(case.account, case.given)
    except NotPermitted:
        yield _at_a_glance(case)
        return
    lacking = [r for r in seen if not r.whole]
    for resource in lacking:
        yield Finding(what=_WHAT, result="bad", told=resource.sentence, step=_step(case, resource))
    if not lacking:
        parts = ", ".join(f"{r.kind} {r.name}" for r in seen)
        yield Finding(what=_WHAT, result="good", told=f"all there: {parts}")


def _at_a_glance(case: Case) -> Finding:
    """Look with the few permissions that running clusters takes."""
    if shared.find(case.account, case.given) is not None:
        return Finding(what=_WHAT, result="good", told="all there, at a glance")
    return Finding(
        what=_WHAT,
        result="bad",
        told="a part is missing or damaged, and these credentials may not see which",
        step=f"ask an administrator to run {case.command('bootstrap')}",
    )


def _step(case: Case, resource: Resource) -> str:
    if resource.state == "foreign":
        return "remove or rename it, or name a resource of your own in the profile"
    look = case.command("bootstrap --dry-run")
    return f"run {case.command('bootstrap')}; {look} shows first what it makes"


def _roles(case: Case) -> Iterator[Finding]:
    for argument, default in _ROLES.items():
        name = str(case.given.get(argument, default)).rsplit("/", 1)[-1]
        yield _role(case, name, given=argument in case.given)


def _role(case: Case, name: str, *, given: bool) -> Finding:
    what = f"role {name}"
    try:
        role = case.account.call("iam", "get_role", RoleName=name)["Role"]
    except AwsRefused as refused:
        if refused.code == "NoSuchEntity":
            step = "mend its ARN in the profile" if given else f"run {case.command('bootstrap')}"
            return Finding(what=what, result="bad", told="it does not exist", step=step)
        return Finding(what=what, result="skipped", told=f"IAM does not show it ({refused.reason})")
    if not _trusts_ecs(role["AssumeRolePolicyDocument"]):
        return Finding(
            what=what,
            result="bad",
            told=f"it does not trust {_ECS_TASKS}, so that no task can have it",
            step="let that service assume the role in the role's trust relationship",
        )
    return Finding(what=what, result="good", told=f"exists, and {_ECS_TASKS} may take it")


def _trusts_ecs(document: dict[str, Any]) -> bool:
    for statement in _several(document.get("Statement")):
        principal = statement.get("Principal") or {}
        services = ["*"] if principal == "*" else _several(principal.get("Service"))
        actions = _several(statement.get("Action"))
        if (
            statement.get("Effect") == "Allow"
            and {_ECS_TASKS, "*"} & set(services)
            and {"sts:AssumeRole", "sts:*", "*"} & set(actions)
        ):
            return True
    return False


def _several(value: Any) -> list[Any]:
    """Take one or several, as IAM's documents have either."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


SHARED_SET = Check(_WHAT, _shared_set, ["caller"])
ROLES = Check("roles", _roles, ["caller"])
