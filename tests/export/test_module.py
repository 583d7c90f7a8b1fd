"""An export is a module that makes an equal environment, and nothing else."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskenv_lab.environments import (
    DaskCloudProviderEnvironment,
    DaskGatewayEnvironment,
    Environment,
    RemoteDaskEnvironment,
    Secret,
)
from daskenv_lab.errors import EnvironmentValueError, ExportError
from daskenv_lab.export import python_module

WHEN = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


def announce() -> None:
    """Stand for a hook that a module offers."""


class Hooks:
    """Stand for a class whose functions are hooks."""

    @staticmethod
    def announce() -> None:
        """Stand for a hook that lies in a class."""


def _exported(environment: Environment, source: str = "the session 'dev'") -> str:
    return python_module(environment, source=source, when=WHEN)


def _imported(code: str) -> Environment:
    names: dict[str, Any] = {}
    exec(compile(code, "environment.py", "exec"), names)
    made = names["environment"]
    assert isinstance(made, Environment)
    return made


def _ruff(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ruff", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


texts = st.text(max_size=12) | st.sampled_from(
    ['"', "'", '"""', "\\", "\\'", '"\'"', "{x}", "\0", "\ud800", "\u202e", "é" * 50, "x" * 120]
)
plain = st.none() | st.booleans() | st.integers() | texts | st.binary(max_size=9)
hashable = plain | st.lists(plain, max_size=3).map(tuple) | st.frozensets(plain, max_size=3)
values = st.recursive(
    hashable | st.floats() | st.timedeltas() | st.sets(hashable, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=6,
)
hooks = st.sampled_from([None, announce, Hooks.announce, math.fsum])
mappings = st.dictionaries(texts, values, max_size=2)


def _made(further: dict[str, Any], **shared: Any) -> Environment:
    """Make an environment, without further arguments that are too much like its own."""
    further = {name: v for name, v in further.items() if normalize("NFKC", name) == name}
    try:
        return DaskGatewayEnvironment("local", adaptive_max_workers=3, **shared, **further)
    except (EnvironmentValueError, TypeError):
        return DaskCloudProviderEnvironment("fargate", n_workers=3, labels=shared["labels"])


environments = st.builds(
    _made,
    mappings,
    metadata=mappings,
    labels=st.lists(texts.filter(bool), max_size=3),
    on_start=hooks,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(environments)
def test_any_environment_comes_back_equal(environment: Environment) -> None:
    """Importing an export makes an equal environment, whatever its settings hold."""
    assert _imported(_exported(environment)).fingerprint == environment.fingerprint


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(environments, min_size=30, max_size=30))
def test_exports_are_formatted_as_ruff_would(
    tmp_path_factory: pytest.TempPathFactory, made: list[Environment]
) -> None:
    """Neither `ruff format` nor `ruff check` would change or blame an export."""
    folder = tmp_path_factory.mktemp("exports")
    for number, environment in enumerate(made):
        path = folder / f"environment_{number}.py"
        path.write_text(_exported(environment), encoding="utf-8")
    formatted = _ruff("format", "--diff", "--isolated", "--no-cache", folder)
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr
    checked = _ruff("check", "--isolated", "--no-cache", folder)
    assert checked.returncode == 0, checked.stdout


def test_a_name_beside_a_lone_tuple_is_formatted_as_ruff_would(tmp_path: Path) -> None:
    """The width of a name that is not ASCII is known exactly, as ruff joins such a tuple again."""
    environment = DaskGatewayEnvironment("local", **{"é" * 50: (None,)})
    path = tmp_path / "environment.py"
    path.write_text(_exported(environment), encoding="utf-8")
    formatted = _ruff("format", "--diff", "--isolated", "--no-cache", path)
    assert formatted.returncode == 0, formatted.stdout
    assert _imported(_exported(environment)) == environment


def test_an_export_reads_as_written_by_hand() -> None:
    """The module says where it comes from and holds one constructor call."""
    environment = DaskGatewayEnvironment(
        "https://gateway.example.org",
        {"type": "basic", "username": "ada", "password": "hunter2"},
        adaptive_max_workers=4,
        labels=["etl"],
        on_start=announce,
        idle=timedelta(minutes=5),
    )
    code = _exported(environment)
    assert "hunter2" not in code
    assert code.partition('"""\n\n')[2] == (
        "from datetime import timedelta\n"
        "\n"
        "from daskenv_lab import DaskGatewayEnvironment, Secret\n"
        f"from {__name__} import announce\n"
        "\n"
        "environment = DaskGatewayEnvironment(\n"
        "    adaptive_max_workers=4,\n"
        "    adaptive_min_workers=1,\n"
        '    auth={\n        "type": "basic",\n        "username": "ada",\n'
        '        "password": Secret("DASKENV_GATEWAY_PASSWORD"),\n    },\n'
        '    gateway_address="https://gateway.example.org",\n'
        "    idle=timedelta(seconds=300),\n"
        '    labels=["etl"],\n'
        "    on_start=announce,\n"
        ")\n"
    )
    docstring = code.partition("from datetime")[0]
    assert "the session 'dev'" in docstring
    assert "2026-11-21 12:30:00 UTC" in docstring
    assert "- DASKENV_GATEWAY_PASSWORD" in docstring


def test_a_secret_is_read_only_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing an export works without its secret, which comes from the process variable."""
    monkeypatch.delenv("DASKENV_GATEWAY_PASSWORD", raising=False)
    auth = {"type": "basic", "password": "hunter2"}
    environment = DaskGatewayEnvironment("https://gateway.example.org", auth)
    made = _imported(_exported(environment))
    assert made == environment
    assert made.secrets == (Secret("DASKENV_GATEWAY_PASSWORD"),)
    assert made.secrets[0].reveal({"DASKENV_GATEWAY_PASSWORD": "later"}) == "later"


def test_names_that_clash_are_told_apart() -> None:
    """Hooks of the same name, or of a name that the module uses itself, keep their meaning."""
    environment = DaskGatewayEnvironment("local", on_start=announce, on_exit=Hooks.announce)
    made = _imported(_exported(environment))
    assert made.on_start is announce
    assert made.on_exit is Hooks.announce


def test_a_hook_named_environment_does_not_hide_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook whose name the export uses itself is imported under another one."""
    (tmp_path / "rude_hooks.py").write_text(
        "def environment():\n    pass\n\n\ndef Secret():\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import rude_hooks  # type: ignore[import-not-found]

    environment = DaskGatewayEnvironment(
        "local", on_start=rude_hooks.environment, on_exit=rude_hooks.Secret, api_token="x"
    )
    made = _imported(_exported(environment))
    assert made.on_start is rude_hooks.environment
    assert made.on_exit is rude_hooks.Secret
    assert made == environment


@pytest.mark.parametrize(
    "hook", [lambda: None, pytest.param((lambda n: lambda: n)(1), id="closure")]
)
def test_a_function_without_a_name_is_refused(hook: Any) -> None:
    """A lambda or a closure is refused, with what to do instead."""
    with pytest.raises(ExportError, match=r"on_start is .*move it to the top level of a module"):
        _exported(DaskGatewayEnvironment("local", on_start=hook))


def test_a_function_of_the_notebook_is_refused(tmp_path: Path) -> None:
    """A hook that a script or notebook defines itself cannot be imported, and is refused."""
    script = tmp_path / "script.py"
    script.write_text(
        "from datetime import UTC, datetime\n"
        "from daskenv_lab import DaskGatewayEnvironment\n"
        "from daskenv_lab.export import python_module\n"
        "def hook(): pass\n"
        "made = DaskGatewayEnvironment('local', on_start=hook)\n"
        "python_module(made, source='here', when=datetime.now(UTC))\n"
    )
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "ExportError" in ended.stderr
    assert "move it to the top level of a module that can be imported" in ended.stderr


def test_a_function_of_a_module_without_a_file_is_refused() -> None:
    """A hook of a module that only this process has is refused."""
    import types

    module = types.ModuleType("conjured")
    exec("def hook(): pass", module.__dict__)
    sys.modules["conjured"] = module
    try:
        with pytest.raises(ExportError, match="finds no module 'conjured'"):
            _exported(DaskGatewayEnvironment("local", on_start=module.hook))
    finally:
        del sys.modules["conjured"]


@pytest.mark.parametrize("source", ['""" + exit() + """', "a\\", "x\ny", "\ud800", "w" * 300, ""])
def test_the_source_cannot_end_the_docstring(source: str, tmp_path: Path) -> None:
    """Whatever the session is called, the docstring stays a docstring and formatted."""
    code = _exported(DaskGatewayEnvironment("local"), source)
    assert _imported(code) == DaskGatewayEnvironment("local")
    file = tmp_path / "environment.py"
    file.write_text(code, encoding="utf-8")
    assert _ruff("format", "--check", "--isolated", file).returncode == 0


@pytest.mark.parametrize(
    "value",
    [
        "https://ada:hunter2@gateway.example.org",
        ["postgresql://ada:hunter2@db/x"],
        {3: ("ftp://ada:hunter2@files",)},
    ],
)
def test_a_password_in_an_address_is_looked_up(value: Any) -> None:
    """An address with a password is a secret, and the module does not hold it."""
    module = _exported(DaskGatewayEnvironment("local", where=value))
    assert "hunter2" not in module


def test_a_password_in_a_key_is_refused() -> None:
    """A key cannot be looked up, so an address with a password there is refused, unseen."""
    with pytest.raises(ExportError, match="password in it") as raised:
        _exported(DaskGatewayEnvironment("local", where={"redis://:hunter2@cache": 1}))
    assert "hunter2" not in str(raised.value)


def test_a_private_key_as_bytes_is_refused() -> None:
    """A private key never ends up in an export."""
    key = b"-----BEGIN EC PRIVATE KEY-----\nabc"
    with pytest.raises(ExportError, match="private key"):
        _exported(DaskGatewayEnvironment("local", blob=key))


def test_a_name_that_python_reads_as_another_is_refused() -> None:
    """An argument that Python's normal form would turn into another one is refused."""
    with pytest.raises(ExportError, match="read as another name"):
        _exported(DaskGatewayEnvironment("local", **dict.fromkeys(["\ufb01le"])))


def test_values_that_look_like_code_stay_values() -> None:
    """Text that would be code is only text."""
    text = '"); import os; os.abort(); ("'
    environment = RemoteDaskEnvironment("tcp://127.0.0.1:8786", metadata={text: [text]})
    assert _imported(_exported(environment)).metadata == {text: [text]}


def test_a_number_beyond_pythons_digits_is_written() -> None:
    """A whole number that Python would not print in decimal comes back."""
    environment = DaskGatewayEnvironment("local", big=-(10**5000))
    assert _imported(_exported(environment)).extra["big"] == -(10**5000)
