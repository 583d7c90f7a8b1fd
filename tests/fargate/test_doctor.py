"""The doctor on a healthy account, and each fault in its own line while the others stay."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs

import dask
import pytest

from daskenv_lab import DaskCloudProviderEnvironment, rehearsal
from daskenv_lab.providers.fargate import shared
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused, Credentials
from daskenv_lab.providers.fargate.checks import Caller, Case, Check, Finding, examined
from daskenv_lab.providers.fargate.checks_permissions import SIMULATED
from daskenv_lab.providers.fargate.doctor import examine
from daskenv_lab.rehearsal import Fault

ALWAYS_SKIPPED = {"permissions to start and stop", "image", "quota of Fargate"}
"""What a rehearsal with an image from Docker Hub cannot tell."""


def environment(**arguments: object) -> DaskCloudProviderEnvironment:
    """Make an environment that is rehearsed."""
    return DaskCloudProviderEnvironment("fargate", rehearse=True, **arguments)


def examined_as(**arguments: object) -> dict[str, Finding]:
    """Examine, and give the worst finding for each thing that was looked at."""
    return by_what(examine(environment(**arguments), progress=print))


def by_what(findings: Iterator[Finding]) -> dict[str, Finding]:
    """Keep the worst finding for each thing."""
    worst = ["good", "skipped", "warning", "bad"]
    found: dict[str, Finding] = {}
    for finding in findings:
        before = found.get(finding.what)
        if before is None or worst.index(finding.result) > worst.index(before.result):
            found[finding.what] = finding
    return found


def not_good(found: dict[str, Finding]) -> set[str]:
    """Name what is bad or warned about."""
    return {what for what, f in found.items() if f.result in ("bad", "warning")}


@pytest.fixture
def made(aws: Aws) -> Iterator[Aws]:
    """Give an account with the whole shared set."""
    shared.ensure(aws, {}, progress=print)
    yield aws
    rehearsal.clear()


@pytest.fixture
def outside(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """Let all of AWS be the rehearsal for a process that does not know of it."""
    assert aws.endpoint is not None
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    yield aws
    rehearsal.clear()


def test_a_healthy_account_is_good(made: Aws) -> None:
    """Everything is good, but for what cannot be looked at, and nothing is left to be done."""
    found = examined_as()
    assert {what for what, f in found.items() if f.result != "good"} == ALWAYS_SKIPPED
    assert not any(f.step for f in found.values() if f.result == "good")
    assert all(f.told for f in found.values())
    assert found["quota of Fargate"].told == "not known, as a rehearsal has no quotas"


def test_looking_changes_nothing(made: Aws) -> None:
    """Only operations that read are called, and the two that are called dry."""
    rehearsal.forget_calls()
    examined_as()
    called = {name.split(":")[1] for name in rehearsal.calls()}
    changing = {c for c in called if not c.startswith(("Describe", "List", "Get"))}
    assert changing == {"AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"}
    [group] = made.call(
        "ec2", "describe_security_groups", Filters=[{"Name": "group-name", "Values": ["daskenv"]}]
    )["SecurityGroups"]
    assert not any(rule.get("IpRanges") for rule in group["IpPermissions"])


def test_findings_are_written_down(made: Aws) -> None:
    """Each is plain text for --json."""
    written = json.dumps([f.to_dict() for f in examine(environment(), progress=print)])
    assert {"what", "result", "told", "step"} == set(json.loads(written)[0])


def test_wrong_credentials_stop_only_what_needs_them(outside: Aws) -> None:
    """The key's secret is nowhere, the arguments and the region are good, the rest is skipped."""
    wrong = DaskCloudProviderEnvironment(
        "fargate",
        region_name="us-east-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="hush-hush",
    )
    found = by_what(examine(wrong, progress=print))
    assert found["credentials"].result == "bad"
    assert "log in" in found["credentials"].step
    assert {w for w, f in found.items() if f.result == "good"} == {"arguments and sizes", "region"}
    assert "the credentials" in found["shared resources"].told
    assert not_good(found) == {"credentials"}
    assert "hush-hush" not in str(list(found.values()))


def test_without_a_region_nothing_of_aws_is_asked(outside: Aws) -> None:
    """The line names the variable, and the arguments are looked at all the same."""
    rehearsal.forget_calls()
    found = by_what(examine(DaskCloudProviderEnvironment("fargate"), progress=print))
    assert found["region"].result == "bad"
    assert "AWS_REGION" in found["region"].told + found["region"].step
    assert found["arguments and sizes"].result == "good"
    assert rehearsal.calls() == {}


def test_a_misspelt_region_is_named(outside: Aws) -> None:
    """The nearest region is in the line."""
    named = DaskCloudProviderEnvironment("fargate", region_name="eu-wset-1")
    found = by_what(examine(named, progress=print))
    assert found["region"].result == "warning"
    assert "'eu-west-1'" in found["region"].told


def test_an_address_of_ours_that_cannot_be_found(outside: Aws) -> None:
    """In an account that is no rehearsal the caller's address is asked for, or to be given."""
    shared.ensure(outside, {}, progress=print)
    # The emulator has no simulator of policies, and fails where it is asked.
    rehearsal.order(Fault(kind="denied", operation="iam:SimulatePrincipalPolicy"))
    assert outside.credentials is not None
    real = DaskCloudProviderEnvironment(
        "fargate",
        region_name=outside.region,
        aws_access_key_id=outside.credentials.key_id,
        aws_secret_access_key=outside.credentials.secret,
    )
    with dask.config.set({"daskenv.fargate.address-service": "http://127.0.0.1:9"}):
        found = by_what(examine(real, progress=print))
    assert not_good(found) == {"way in for clients"}
    assert "--allow-from" in found["way in for clients"].told + found["way in for clients"].step


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ("ecs:ListTasks", "bad"),
        ("ec2:AuthorizeSecurityGroupIngress", "bad"),
        ("logs:GetLogEvents", "bad"),
        ("secretsmanager:GetSecretValue", "warning"),
    ],
)
def test_a_permission_that_lacks_is_named(made: Aws, operation: str, result: str) -> None:
    """The operation and the command for the administrator are told, and the others stay good."""
    rehearsal.order(Fault(kind="denied", operation=operation))
    found = examined_as()
    line = found["permissions to look"]
    assert line.result == result
    assert operation in line.told
    assert "bootstrap --policy use" in line.step
    assert not_good(found) == {"permissions to look"}


def test_a_role_that_may_not_be_seen_leaves_the_others(made: Aws) -> None:
    """What is denied is skipped where it is only looked at, and bad where it is needed."""
    rehearsal.order(Fault(kind="denied", operation="iam:GetRole"))
    found = examined_as()
    assert found["permissions to look"].result == "bad"
    assert found["role daskenv-task"].result == "skipped"
    assert found["VPC and subnets"].result == "good"
    assert found["way out for tasks"].result == "good"


def test_permissions_to_use_are_enough_for_the_shared_set(made: Aws) -> None:
    """What only an administrator may read is left out, and the set is found all the same."""
    rehearsal.order(Fault(kind="denied", operation="iam:GetRolePolicy"))
    found = examined_as()
    assert found["shared resources"].result == "good"
    assert "at a glance" in found["shared resources"].told
    assert not_good(found) == set()


def test_an_account_without_the_shared_set(empty_aws: Aws) -> None:
    """Each part that lacks is told with the command that makes it, and the network is looked at."""
    found = list(examine(environment(), progress=print))
    parts = [f for f in found if f.what == "shared resources"]
    assert len(parts) == 5
    assert all(f.result == "bad" and "daskenv bootstrap --rehearse" in f.step for f in parts)
    assert by_what(iter(found))["route of public tasks"].result == "good"


def test_a_missing_role(made: Aws) -> None:
    """It has its line, and what does not need it stays good."""
    made.call("iam", "delete_role", RoleName="daskenv-task")
    found = examined_as()
    assert found["role daskenv-task"].result == "bad"
    assert "bootstrap" in found["role daskenv-task"].step
    assert not_good(found) == {"role daskenv-task", "shared resources"}


def test_a_role_that_tasks_cannot_have(made: Aws) -> None:
    """A role of the user's that trusts another service is told."""
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "x.aws"}}
    arn = made.call(
        "iam",
        "create_role",
        RoleName="theirs",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )["Role"]["Arn"]
    try:
        found = examined_as(task_role_arn=arn)
        assert found["role theirs"].result == "bad"
        assert "ecs-tasks.amazonaws.com" in found["role theirs"].told
        assert not_good(found) == {"role theirs"}
    finally:
        made.call("iam", "delete_role", RoleName="theirs")


def test_an_invalid_pair_names_the_nearest(made: Aws) -> None:
    """What needs no sizes is looked at all the same."""
    found = examined_as(worker_cpu=1024, worker_mem=1024)
    line = found["arguments and sizes"]
    assert line.result == "bad"
    assert "worker_mem=2048" in line.step
    assert found["shared resources"].result == "good"
    assert found["routes of tasks"].result == "skipped"
    assert not_good(found) == {"arguments and sizes"}


def test_tags_need_long_arns(made: Aws) -> None:
    """An account with the old setting is told the command that mends it."""
    made.call("ecs", "put_account_setting", name="taskLongArnFormat", value="disabled")
    try:
        found = examined_as()
    finally:
        made.call("ecs", "put_account_setting", name="taskLongArnFormat", value="enabled")
    assert not_good(found) == {"tags on tasks"}
    assert "put-account-setting" in found["tags on tasks"].step


def test_an_image_in_ecr_is_looked_up(made: Aws) -> None:
    """One that is not there is bad; one that is, good."""
    registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    found = examined_as(image=f"{registry}/flows:1")
    assert not_good(found) == {"image"}
    made.call("ecr", "create_repository", repositoryName="flows")
    layer = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 7}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {**layer, "digest": f"sha256:{'0' * 64}"},
        "layers": [],
    }
    made.call(
        "ecr",
        "put_image",
        repositoryName="flows",
        imageManifest=json.dumps(manifest),
        imageTag="1",
    )
    assert examined_as(image=f"{registry}/flows:1")["image"].result == "good"
    assert examined_as(image=f"{registry}/flows:2")["image"].result == "bad"


def test_gpus_that_no_machine_has(made: Aws) -> None:
    """The machines of an own ECS cluster are looked at for the kind `ecs`."""
    wanted = {"cluster_arn": "arn:aws:ecs:us-east-1:123456789012:cluster/rehearsal-ec2"}
    for gpus, result in ((1, "good"), (8, "bad")):
        one = DaskCloudProviderEnvironment(
            "ecs", rehearse=True, worker_gpu=gpus, worker_mem=4096, **wanted
        )
        found = by_what(examine(one, progress=print))
        assert found["machines of the ECS cluster"].result == result


def test_a_defect_of_one_look_does_not_stop_the_next(made: Aws) -> None:
    """The line says so, and the next look goes on."""

    def broken(_: Case) -> Iterator[Finding]:
        yield Finding(what="one", result="good", told="before")
        raise RuntimeError("what is this")

    def whole(_: Case) -> Iterator[Finding]:
        yield Finding(what="two", result="good", told="after")

    case = Case(environment=environment(), ref=None, probe=False, progress=print, given={})
    found = list(examined(case, [Check("one", broken), Check("two", whole)]))
    assert [(f.what, f.result) for f in found] == [
        ("one", "good"),
        ("one", "skipped"),
        ("two", "good"),
    ]


class Simulator(http.server.BaseHTTPRequestHandler):
    """IAM's simulator, as it is on the wire; it denies what starts tasks."""

    asked: list[dict[str, list[str]]]

    def do_POST(self) -> None:
        """Answer a question about permissions."""
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.asked.append(asked)
        actions = [v[0] for k, v in asked.items() if k.startswith("ActionNames.member")]
        members = "".join(
            f"<member><EvalActionName>{a}</EvalActionName><EvalDecision>"
            f"{'implicitDeny' if a == 'ecs:RunTask' else 'allowed'}</EvalDecision></member>"
            for a in actions
        )
        told = (
            "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><IsTruncated>false"
            f"</IsTruncated><EvaluationResults>{members}</EvaluationResults>"
            "</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_simulator_tells_what_cannot_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What IAM would deny is named, and it is asked with the conditions of the policy."""
    Simulator.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Simulator) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        aws = Aws(region="eu-west-1", credentials=Credentials(key_id="AKIAEXAMPLE", secret="x"))
        user = Caller(arn="arn:aws:iam::123456789012:user/ada", account="123456789012")
        case = Case(
            environment=DaskCloudProviderEnvironment("fargate"),
            ref=None,
            probe=False,
            progress=print,
            given={},
            aws=aws,
            caller=user,
        )
        [found] = examined(case, [SIMULATED])
        server.shutdown()
    assert found.result == "bad"
    assert found.told == "the credentials may not use ecs:RunTask"
    context = {v[0] for a in Simulator.asked for k, v in a.items() if "ContextKeyName" in k}
    assert {"ecs:cluster", "iam:PassedToService"} <= context
    resources = [v[0] for a in Simulator.asked for k, v in a.items() if "ResourceArns" in k]
    assert all(r == "*" or "*" not in r for r in resources)
    assert all(a["PolicySourceArn"] == [user.arn] for a in Simulator.asked)


def test_a_doctor_that_is_throttled_goes_on(made: Aws) -> None:
    """Calls are tried again."""
    rehearsal.order(Fault(kind="throttle", operation="ec2:DescribeSubnets", times=2))
    assert not_good(examined_as()) == set()


def test_a_set_that_is_not_ours_is_told(empty_aws: Aws) -> None:
    """A cluster of our name that somebody else made is left to them."""
    empty_aws.call("ecs", "create_cluster", clusterName="daskenv")
    try:
        found = list(examine(environment(), progress=print))
        [line] = [f for f in found if f.what == "shared resources" and "foreign" in f.told]
        assert "rename" in line.step
    finally:
        try:
            empty_aws.call("ecs", "delete_cluster", cluster="daskenv")
        except AwsRefused as refused:
            print(refused)
