"""What is written as JSON, for Dask or for Prefect makes an equal environment when it is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask.config
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings

import daskenv_lab
from daskenv_lab import config
from daskenv_lab.environments import (
    DaskCloudProviderEnvironment,
    DaskGatewayEnvironment,
    Environment,
    RemoteDaskEnvironment,
    environment_of_kind,
    from_dict,
)
from daskenv_lab.errors import ConfigError, EnvironmentValueError, ExportError
from daskenv_lab.export import Request, load, write_environment
from daskenv_lab.export.texts import VARIABLE, one_line

from .generated import announce, environments

NAMES = {"json": "environment.json", "dask": "environment.yaml", "prefect": "prefect.yaml"}
OPTIONS: dict[str, dict[str, Any]] = {
    "json": {},
    "dask": {"profile": "big"},
    "prefect": {"entrypoint": "flows.py:etl"},
}
LONG = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def _write(environment: Environment, folder: Path, kind: str, **more: Any) -> Path:
    asked = {"source": "the session 'dev'", "when": datetime(2026, 11, 21, tzinfo=UTC)}
    request = Request(**{**asked, **OPTIONS[kind], **more})
    return write_environment(environment, folder / NAMES[kind], request)


def _same(made: Environment, wanted: Environment) -> bool:
    return type(made) is type(wanted) and made.fingerprint == wanted.fingerprint


def _collected(path: Path, name: str = "big") -> Environment:
    """Read a profile as a process does whose Dask has collected the file."""
    found = dask.config.collect(paths=[str(path)], env={})
    with dask.config.set({"daskenv.profiles": found["daskenv"]["profiles"]}):
        kind, arguments = config.profile(name)
    return environment_of_kind(kind, arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder that all examples write to, one over the other."""
    return tmp_path_factory.mktemp("exports")


@LONG
@given(environments)
def test_json_comes_back_equal(folder: Path, environment: Environment) -> None:
    """A JSON file makes an equal environment, and any reader of JSON takes it."""
    path = _write(environment, folder, "json")
    assert _same(load(path), environment)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert _same(from_dict(json.loads(path.read_bytes(), parse_constant=refuse)), environment)


@LONG
@given(environments)
def test_a_profile_comes_back_equal(folder: Path, environment: Environment) -> None:
    """A profile makes an equal environment, loaded or through Dask's configuration."""
    path = _write(environment, folder, "dask")
    assert _same(load(path), environment)
    assert _same(_collected(path), environment)


@LONG
@given(environments)
def test_a_profile_survives_that_dask_puts_variables_in(
    folder: Path, environment: Environment
) -> None:
    """Nothing in a profile is taken for a process variable, wherever Dask expands them."""
    path = _write(environment, folder, "dask")
    plain = dask.config.expand_environment_variables(yaml.safe_load(path.read_text()))
    with dask.config.set({"daskenv.profiles": plain["daskenv"]["profiles"]}):
        kind, arguments = config.profile("big")
    assert _same(environment_of_kind(kind, arguments), environment)


@LONG
@given(environments)
def test_a_deployment_comes_back_equal(folder: Path, environment: Environment) -> None:
    """A deployment makes an equal environment, after Prefect has filled in its templates too."""
    from prefect.utilities.templating import apply_values

    assume(not any("{{" in label for label in environment.labels))
    path = _write(environment, folder, "prefect", work_pool_name="pool")
    assert _same(load(path), environment)
    (entry,) = yaml.safe_load(path.read_text())["deployments"]
    rendered = apply_values(apply_values(entry, dict(os.environ)), {"x": "gone"})
    assert rendered == entry
    held = rendered["work_pool"]["job_variables"]["env"][VARIABLE]
    assert _same(from_dict(json.loads(held)), environment)


def test_one_line_can_be_a_process_variable() -> None:
    """The written environment reaches another process unchanged through a process variable."""
    environment = DaskGatewayEnvironment("local", note="{{ $HOME }} \0 \ud800 ü\n$PATH")
    code = f"import os, sys; sys.stdout.write(os.environ[{VARIABLE!r}])"
    variables = {**os.environ, VARIABLE: one_line(environment)}
    told = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    ).stdout
    assert told.isascii()
    assert "\n" not in told
    assert from_dict(json.loads(told)) == environment


def test_a_profile_reads_as_written_by_hand(tmp_path: Path) -> None:
    """Ordinary settings stand in a profile as somebody would write them."""
    auth = {"type": "basic", "username": "ada", "password": "hunter2"}
    environment = DaskGatewayEnvironment(
        "https://gateway.example.org", auth, n_workers=4, labels=["etl", "on"], image="a/b:1"
    )
    text = _write(environment, tmp_path, "dask").read_text()
    assert "hunter2" not in text
    comment, _, body = text.partition("\n\n")
    assert all(line.startswith("# ") for line in comment.splitlines())
    assert "DASKENV_GATEWAY_PASSWORD" in comment
    assert body == (
        "daskenv:\n"
        "  profiles:\n"
        "    big:\n"
        "      kind: gateway\n"
        "      auth:\n"
        "        type: basic\n"
        "        username: ada\n"
        "        password:\n"
        '          "$secret": DASKENV_GATEWAY_PASSWORD\n'
        '      gateway_address: "https://gateway.example.org"\n'
        '      image: "a/b:1"\n'
        "      labels:\n"
        "        - etl\n"
        '        - "on"\n'
        "      n_workers: 4\n"
    )


def test_defaults_of_the_configuration_do_not_replace_a_profiles_settings(tmp_path: Path) -> None:
    """A Gateway's address that is not set stays so, whatever the configuration says."""
    environment = DaskGatewayEnvironment(n_workers=1)
    path = _write(environment, tmp_path, "dask")
    with dask.config.set({"daskenv.gateway.address": "https://other", "daskenv.gateway.auth": "x"}):
        assert _same(_collected(path), environment)


def test_up_takes_the_exported_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new process whose Dask finds the file knows the profile."""
    environment = DaskGatewayEnvironment("local", folder="$HOME", **{"a-b": 1, "a_b": 2})
    _write(environment, tmp_path, "dask")
    code = (
        "from daskenv_lab.lifecycle import environment_for\n"
        "print(environment_for('big').fingerprint)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DASK_CONFIG": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout.strip() == environment.fingerprint, told.stderr


def test_a_deployment_is_one_that_prefect_reads(tmp_path: Path) -> None:
    """Prefect's own reader finds the deployment with all that was given."""
    from prefect.cli.deploy._config import _load_deploy_configs_and_actions
    from rich.console import Console

    environment = DaskGatewayEnvironment("local", labels=["etl", "1e3"])
    more = {"name": "nightly", "work_pool_name": "pool", "description": "Loads: all"}
    path = _write(environment, tmp_path, "prefect", parameters={"n": 3}, **more)
    (entry,), _ = _load_deploy_configs_and_actions(path, console=Console())
    assert entry == {
        "name": "nightly",
        "entrypoint": "flows.py:etl",
        "description": "Loads: all",
        "tags": ["etl", "1e3"],
        "parameters": {"n": 3},
        "work_pool": {
            "name": "pool",
            "job_variables": {"env": {VARIABLE: one_line(environment)}},
        },
    }


@pytest.mark.parametrize(
    ("kind", "more", "told"),
    [
        ("prefect", {"entrypoint": None}, "say where the flow is"),
        ("prefect", {"parameters": {"at": {1}}}, "cannot be stored by Prefect"),
        ("prefect", {"parameters": {"at": {1: 2}}}, "come back from Prefect as another one"),
        ("prefect", {"parameters": {"url": "ftp://a:b@c"}}, "holds no secrets"),
        ("dask", {"profile": "a b"}, "cannot name a profile"),
        ("dask", {"profile": None}, "cannot name a profile"),
        ("dask", {"entrypoint": "flows.py:etl"}, "take the format 'prefect'"),
        ("json", {"profile": "big"}, "take the format 'dask'"),
        ("json", {"format": "yaml"}, "there is no format 'yaml'"),
        ("json", {"format": "dask"}, "is a name for the format 'json'"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, kind: str, more: dict[str, Any], told: str
) -> None:
    """What a format needs and lacks, or does not hold, is one sentence, and no file."""
    with pytest.raises(ExportError, match=told):
        _write(DaskGatewayEnvironment("local"), tmp_path, kind, **more)
    assert not list(tmp_path.iterdir())


def test_a_label_that_prefect_would_fill_in_is_refused(tmp_path: Path) -> None:
    """A label becomes a tag, where nothing keeps Prefect from rendering it."""
    environment = DaskGatewayEnvironment("local", labels=["{{ prefect.variables.x }}"])
    with pytest.raises(ExportError, match="rename it"):
        _write(environment, tmp_path, "prefect")


@pytest.mark.parametrize("kind", NAMES)
def test_hooks_without_a_module_are_refused(tmp_path: Path, kind: str) -> None:
    """A hook that only this process has is refused, with the format that can hold it."""

    def hook() -> None:
        """Stand for a function of the notebook."""

    with pytest.raises(ExportError, match=r"the hook on_start is .*format='python'"):
        _write(DaskGatewayEnvironment("local", on_start=hook), tmp_path, kind)
    environment = DaskGatewayEnvironment("local", on_start=announce)
    assert load(_write(environment, tmp_path, kind)).on_start is announce


@pytest.mark.parametrize("kind", NAMES)
def test_an_edited_file_stays(tmp_path: Path, kind: str) -> None:
    """An untouched export is replaced; one that somebody edited is not."""
    first, second = (DaskGatewayEnvironment("local", n_workers=n) for n in (1, 2))
    path = _write(first, tmp_path, kind)
    assert load(_write(second, tmp_path, kind)) == second
    path.write_text(path.read_text().replace("2", "3", 1))
    with pytest.raises(ExportError, match="not an unedited export"):
        _write(first, tmp_path, kind)


@pytest.mark.parametrize("kind", NAMES)
def test_a_secret_is_there_by_its_variable(tmp_path: Path, kind: str) -> None:
    """No format holds a secret, and each lists the process variable that it is read from."""
    environment = DaskGatewayEnvironment("local", api_token="hunter2")
    text = _write(environment, tmp_path, kind).read_text()
    assert "hunter2" not in text
    assert text.count("DASKENV_API_TOKEN") == 2
    assert load(tmp_path / NAMES[kind]) == environment


def test_a_class_of_the_users_is_refused(tmp_path: Path) -> None:
    """An environment of another class could only be read as one of ours."""

    class Own(RemoteDaskEnvironment):
        """Stand for a class of the user's."""

    with pytest.raises(ExportError, match="format='python'"):
        _write(Own("tcp://10.0.0.5:8786"), tmp_path, "json")


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("cut", [10, 200])
def test_a_file_that_was_cut_is_told_in_one_sentence(tmp_path: Path, kind: str, cut: int) -> None:
    """Part of a file is damaged or holds no environment, which is said with its name."""
    path = _write(DaskGatewayEnvironment("local", on_start=announce), tmp_path, kind)
    path.write_text(path.read_text()[:cut])
    with pytest.raises((EnvironmentValueError, ExportError), match=r"(?s)^'.*'.*;") as raised:
        load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "a: !!python/object/apply:os.abort []",
        "daskenv: {}",
        "daskenv: {profiles: {a: 1}}",
        "daskenv: {profiles: {a: {kind: local}, b: {kind: local}}}",
        "daskenv: {profiles: {a: {kind: local, n_workers: {$tuple: 3}}}}",
        "daskenv: {profiles: {a: {kind: local, n_workers: {$text: '\"'}}}}",
        "daskenv: {profiles: {a: {kind: local, n_workers: {$new: 1}}}}",
        "daskenv: {profiles: {a: {kind: local, $map: 3}}}",
        "daskenv: {profiles: {a: {kind: local, $map: [[1, 2]]}}}",
        "daskenv: {profiles: {a: {kind: local, on_start: {$object: 'os:nothing'}}}}",
        "daskenv: {profiles: {a: {kind: remote}}}",
        "daskenv: {profiles: {a: {kind: nonsense}}}",
        "deployments: []",
        "deployments: [{name: a}]",
        "deployments: [{name: a, work_pool: {job_variables: {env: {DASKENV_ENVIRONMENT: x}}}}]",
        "deployments: [{name: a, work_pool: {job_variables: {env: {DASKENV_ENVIRONMENT: '1'}}}}]",
        "{schema: 1, kind: remote, arguments: {}}",
        "{schema: 1, kind: [], arguments: {}}",
        "{schema: 2, kind: remote, arguments: {}}",
        "[" * 100_000,
        "\0",
    ],
)
def test_a_damaged_file_is_told_in_one_sentence(tmp_path: Path, text: str) -> None:
    """Whatever a file holds, reading it ends in one sentence of ours, and runs nothing."""
    path = tmp_path / "some.yaml"
    path.write_text(text)
    with pytest.raises((EnvironmentValueError, ExportError), match=r"some\.yaml") as raised:
        load(path)
    assert "\n" not in str(raised.value)


def test_one_of_several_is_chosen_by_name(tmp_path: Path) -> None:
    """A file with several profiles or deployments needs to be told which."""
    path = tmp_path / "some.yaml"
    path.write_text("daskenv: {profiles: {a: {kind: local}, b: {kind: local, n-workers: 2}}}")
    assert load(path, profile="b") == DaskGatewayEnvironment("local", n_workers=2)
    with pytest.raises(ExportError, match="profile='a'"):
        load(path)
    with pytest.raises(ExportError, match="no profile 'c'"):
        load(path, profile="c")
    first, second = (DaskGatewayEnvironment("local", n_workers=n) for n in (1, 2))
    entries = [
        {"name": n, "work_pool": {"job_variables": {"env": {VARIABLE: one_line(e)}}}}
        for n, e in (("x", first), ("y", second))
    ]
    path.write_text(yaml.safe_dump({"deployments": entries}))
    assert daskenv_lab.load(path, deployment="y") == second


@pytest.mark.parametrize("name", ["missing.json", "folder.json", "a\0.json", "environment.py"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    """A file that is not there, or is a module, is one sentence."""
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ExportError, match=r"cannot be read|import it instead"):
        load(tmp_path / name)


def test_a_damaged_profile_is_an_error_of_the_configuration() -> None:
    """A profile that cannot be decoded is named, for whoever wrote it by hand."""
    profiles = {"bad": {"kind": "local", "n_workers": {"$nothing": 1}}}
    with (
        dask.config.set({"daskenv.profiles": profiles}),
        pytest.raises(ConfigError, match=r"profile 'bad' .*\$nothing"),
    ):
        config.profile("bad")


def test_a_rehearsed_kind_has_its_short_name(tmp_path: Path) -> None:
    """Fargate is written as the kind that people type."""
    path = _write(DaskCloudProviderEnvironment("fargate", n_workers=2), tmp_path, "dask")
    assert "      kind: fargate\n      n_workers: 2\n" in path.read_text()
