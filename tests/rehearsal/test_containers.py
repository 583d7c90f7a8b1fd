"""What a container has: variables, secrets, programs, and nothing of the user's."""

from __future__ import annotations

import json

import pytest

SHOW = ["python", "-c", "import json, os; print(json.dumps(dict(os.environ)))"]


@pytest.fixture
def secret(account):
    """Give a secret's ARN; it is gone afterwards."""
    client = account.client("secretsmanager")
    arn = client.create_secret(
        Name="daskenv/test", SecretString=json.dumps({"cert": "PEM", "number": 7})
    )["ARN"]
    yield arn
    client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)


def test_variables_come_from_the_request_and_nothing_from_the_user(account):
    """The override wins over the definition, and the user's own variables stay out."""
    own = [{"name": "A", "value": "definition"}, {"name": "B", "value": "definition"}]
    arn = account.run(
        account.define(SHOW, container={"environment": own}),
        overrides={
            "containerOverrides": [
                {"name": "main", "environment": [{"name": "B", "value": "request"}]}
            ]
        },
    )
    account.wait(arn, "STOPPED")
    seen = json.loads(account.output(arn))
    assert (seen["A"], seen["B"]) == ("definition", "request")
    assert "AWS_ACCESS_KEY_ID" not in seen
    left = [name for name in seen if name.startswith(("DASK_", "PREFECT_", "MOTO_", "XDG_"))]
    assert left == []
    assert seen["HOME"].endswith("/main/home")


def test_secrets_are_resolved_when_the_container_starts(account, secret):
    """Whole secrets, keys of them, and partial ARNs all work."""
    partial = secret.rsplit("-", 1)[0]
    wanted = {
        "WHOLE": secret,
        "PARTIAL": partial,
        "CERT": f"{secret}:cert::",
        "NUMBER": f"{partial}:number:AWSCURRENT:",
    }
    entries = [{"name": k, "valueFrom": v} for k, v in wanted.items()]
    task, output = account.ran(SHOW, container={"secrets": entries})
    seen = json.loads(output)
    assert json.loads(seen["WHOLE"])["cert"] == "PEM"
    assert seen["PARTIAL"] == seen["WHOLE"]
    assert (seen["CERT"], seen["NUMBER"]) == ("PEM", "7")
    assert "PEM" not in json.dumps(task, default=str)


@pytest.mark.parametrize("suffix", ["ghost", ":key"])
def test_a_missing_secret_stops_the_task(account, secret, suffix):
    """The stop reason is ECS's sentence about secrets."""
    value = f"{secret}:ghost::" if suffix == ":key" else secret.replace("test", "ghost")
    entries = [{"name": "A", "valueFrom": value}]
    arn = account.run(account.define(SHOW, container={"secrets": entries}))
    task = account.wait(arn, "STOPPED")
    assert task["stoppedReason"].startswith(
        "ResourceInitializationError: unable to pull secrets or registry auth: "
    )
    assert task["stopCode"] == "TaskFailedToStart"


def test_entry_points_and_side_containers(account):
    """The entry point comes before the command, and a task ends with its essential container."""
    side = {
        "name": "side",
        "image": "example/side:1",
        "command": ["sleep", "300"],
        "essential": False,
    }
    main = {
        "name": "main",
        "image": "example/image:1",
        "entryPoint": ["sh", "-c"],
        "command": ["exit 4"],
        "essential": True,
    }
    arn = account.run(account.define([], containerDefinitions=[side, main]))
    task = account.wait(arn, "STOPPED")
    codes = {c["name"]: c["exitCode"] for c in task["containers"]}
    assert codes == {"side": 143, "main": 4}
