"""The way to the AWS API: a rehearsal stays on this machine, and errors are sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from daskenv_lab import rehearsal
from daskenv_lab.errors import AuthenticationFailed, ProviderError, ProviderUnreachable
from daskenv_lab.providers.fargate.aws import Aws, AwsRefused, Credentials, NotPermitted
from daskenv_lab.rehearsal import Fault

MADE_UP = Credentials(key_id="AKIAEXAMPLE", secret="hush-hush")


def test_a_rehearsal_never_leaves_this_machine() -> None:
    """A client whose endpoint is elsewhere is stopped before it sends anything."""
    astray = Aws(region="us-east-1", credentials=MADE_UP, endpoint="http://203.0.113.9:1")
    with pytest.raises(ProviderError, match=r"203\.0\.113\.9.*nothing was sent"):
        astray.call("sts", "get_caller_identity")


def test_a_rehearsal_reads_no_configuration_of_the_user(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Profiles, endpoints, proxies and keys of the user's have no say in it."""
    (tmp_path / "config").write_text("[profile real]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://203.0.113.9:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://203.0.113.9:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    monkeypatch.setenv("HTTP_PROXY", "http://203.0.113.9:3128")
    monkeypatch.setenv("http_proxy", "http://203.0.113.9:3128")
    again = Aws(region=aws.region, credentials=aws.credentials, endpoint=aws.endpoint)
    assert again.call("sts", "get_caller_identity")["Account"] == "123456789012"


def test_the_rehearsals_keys_are_nowhere_else(aws: Aws) -> None:
    """Neither the process's variables nor another botocore session hold them."""
    import os

    import botocore.session

    running = rehearsal.status()
    assert running
    assert not any(running.secret in value for value in os.environ.values())
    found = botocore.session.Session().get_credentials()
    assert found is None or found.access_key != running.key_id
    assert running.secret not in repr(aws.credentials) + repr(aws) + repr(running)


def test_without_a_region_the_next_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is guessed where AWS's configuration has none."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AuthenticationFailed, match="AWS_REGION"):
        Aws()


def test_a_profile_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt AWS_PROFILE is one sentence, and no traceback of botocore's."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(AuthenticationFailed, match="no-such-profile"):
        Aws()


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        ("throttle", ProviderUnreachable, "still says ThrottlingException"),
        ("server-error", ProviderUnreachable, "failed at ecs:ListClusters"),
        ("denied", NotPermitted, "bootstrap --policy use"),
        ("down", ProviderUnreachable, "did not answer ecs:ListClusters"),
    ],
)
@pytest.mark.slow
def test_lasting_faults_become_sentences(
    aws: Aws, kind: str, error: type[ProviderError], told: str
) -> None:
    """After all attempts the operation, the reason and the next step are named."""
    rehearsal.order(Fault(kind=kind, operation="ecs:ListClusters"))
    try:
        with pytest.raises(error, match=told):
            aws.call("ecs", "list_clusters")
    finally:
        rehearsal.clear()


def test_aws_own_word_for_an_error_is_kept(aws: Aws) -> None:
    """Code that has to tell errors apart finds AWS's code."""
    with pytest.raises(AwsRefused) as caught:
        aws.call("secretsmanager", "get_secret_value", SecretId="daskenv/none")
    assert caught.value.code == "ResourceNotFoundException"
    assert caught.value.operation == "secretsmanager:GetSecretValue"


def test_wrong_keys_are_told(aws: Aws) -> None:
    """Keys that the account does not know are no reason to try again."""
    stranger = Aws(region=aws.region, credentials=MADE_UP, endpoint=aws.endpoint)
    with pytest.raises(AuthenticationFailed, match="does not accept the credentials"):
        stranger.call("ecs", "list_clusters")
