"""The policies for an administrator: small enough, narrow, and enough for what we call."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import botocore.session
import pytest

import daskenv_lab
from daskenv_lab.errors import CommandError
from daskenv_lab.providers.fargate.policies import LARGEST, actions, policy

ACCOUNT, REGION = "123456789012", "eu-west-1"
BOTH = [policy("bootstrap", ACCOUNT, REGION), policy("use", ACCOUNT, REGION)]


@pytest.mark.parametrize("document", BOTH)
def test_a_policy_is_small_enough_and_each_statement_says_why(document: dict) -> None:
    """IAM's size limit holds, and each Sid is there once and of IAM's letters."""
    assert len(json.dumps(document, separators=(",", ":"))) <= LARGEST
    sids = [s["Sid"] for s in document["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(sid.isalnum() for sid in sids)
    for statement in document["Statement"]:
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert all("*" not in action for action in statement["Action"])


def test_only_actions_without_narrower_resources_are_allowed_on_everything() -> None:
    """What a bearer may do to things that are not ours is to look, and to describe containers."""
    everywhere = {
        action
        for document in BOTH
        for s in document["Statement"]
        if s["Resource"] == "*" and "Condition" not in s
        for action in s["Action"]
    }
    harmless = ("Describe", "List", "GetCallerIdentity")
    assert {a for a in everywhere if not a.split(":")[1].startswith(harmless)} == {
        "ecs:RegisterTaskDefinition",
        "ecs:DeregisterTaskDefinition",
    }


def test_roles_are_only_passed_to_tasks_and_only_ours() -> None:
    """PassRole names the two roles and the one service."""
    [statement] = [s for s in BOTH[1]["Statement"] if "iam:PassRole" in s["Action"]]
    assert statement["Resource"] == [
        f"arn:aws:iam::{ACCOUNT}:role/daskenv-execution",
        f"arn:aws:iam::{ACCOUNT}:role/daskenv-task",
    ]
    assert statement["Condition"]["StringEquals"] == {
        "iam:PassedToService": "ecs-tasks.amazonaws.com"
    }
    assert "iam:PassRole" not in actions(BOTH[0])


def test_using_the_set_cannot_change_it() -> None:
    """Whoever runs clusters may make no role, group or ECS cluster."""
    made = {a for a in actions(BOTH[1]) if a.split(":")[1].startswith(("Create", "Delete", "Put"))}
    assert {a.split(":")[0] for a in made} == {"secretsmanager"}


def test_tasks_start_in_our_cluster_only() -> None:
    """RunTask is narrowed to our task definitions and our ECS cluster."""
    [statement] = [s for s in BOTH[1]["Statement"] if "ecs:RunTask" in s["Action"]]
    assert statement["Resource"] == f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/daskenv-*:*"
    assert statement["Condition"] == {
        "ArnEquals": {"ecs:cluster": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/daskenv"}
    }


def test_what_the_user_has_is_named_in_place_of_ours() -> None:
    """Given ARNs are in the policy, and the names that they replace are not."""
    document = policy(
        "use",
        ACCOUNT,
        REGION,
        {
            "cluster_arn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/gpu",
            "execution_role_arn": f"arn:aws:iam::{ACCOUNT}:role/theirs",
            "cloudwatch_logs_group": "/theirs",
        },
    )
    text = json.dumps(document)
    assert ":task/gpu/*" in text
    assert "role/theirs" in text
    assert "log-group:/theirs:*" in text
    assert "role/daskenv-execution" not in text
    assert "cluster/daskenv" not in text
    assert "ecs:DescribeContainerInstances" in actions(document)


def test_other_parts_of_aws_have_their_own_arns() -> None:
    """China's regions are in a partition of their own."""
    text = json.dumps(policy("bootstrap", ACCOUNT, "cn-north-1"))
    assert "arn:aws-cn:ecs:cn-north-1" in text
    assert "arn:aws:" not in text


def test_an_unknown_kind_is_refused() -> None:
    """The nearest kind is named."""
    with pytest.raises(CommandError, match="did you mean 'bootstrap'"):
        policy("bootstrp", ACCOUNT, REGION)  # type: ignore[arg-type]


def test_every_operation_in_the_source_is_allowed_by_a_policy() -> None:
    """No call of ours would be refused to somebody who has both policies."""
    called = operations_in_source()
    assert "ecs:RunTask" in called
    own_cluster = policy("use", ACCOUNT, REGION, {"cluster_arn": "theirs"})
    assert called <= actions(BOTH[0]) | actions(own_cluster)


def operations_in_source() -> set[str]:
    """Read the operations that the provider's source names, as IAM calls them."""
    session = botocore.session.Session()
    found = set()
    folder = Path(daskenv_lab.__file__).parent / "providers" / "fargate"
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                words = [a.value for a in node.args[:2] if isinstance(a, ast.Constant)]
                if node.func.attr in ("call", "pages") and len(words) == 2:
                    found.add(_as_iam_says(session, *words))
    return found


def _as_iam_says(session: botocore.session.Session, service: str, operation: str) -> str:
    wanted = operation.replace("_", "")
    known = session.get_service_model(service).operation_names
    prefix = service.replace("-", "")  # IAM writes service-quotas as one word
    return f"{prefix}:{next(name for name in known if name.lower() == wanted)}"
