"""An export is a module that makes an equal environment, and nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskenv_lab.environments import (
    DaskGatewayEnvironment,
    Environment,
    RemoteDaskEnvironment,
    Secret,
)
from daskenv_lab.errors import ExportError
from daskenv_lab.export import python_module

from . import generated
from .generated import Hooks, announce, environments

WHEN = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


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
        # Beside our own folder, ruff would take the package for a part of the user's project.
        cwd=tempfile.gettempdir(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
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
        f"from {generated.__name__} import announce\n"
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
    with pytest.raises(ExportError, match=r"the hook on_start .*at the top level of the notebook"):
        _exported(DaskGatewayEnvironment("local", on_start=hook))


_SCRIPT = """
import sys
from datetime import UTC, datetime
from pathlib import Path

from daskenv_lab import DaskGatewayEnvironment, Secret
from daskenv_lab.export import python_module

FACTOR = {"big": 2}
Secret_2 = 4


def larger(n):
    return n * FACTOR["big"]


# Before the hook, which keeps its own comments.
def size(parameters, provider_kwargs):
    provider_kwargs["n_workers"] = larger( parameters["n"] )   # as it was written
    Path("sized").touch()


def timedelta():
    return Secret


made = DaskGatewayEnvironment(
    "local", on_execute=size, on_start=timedelta, api_token="hunter2", **{"none": None}
)
code = python_module(made, source="here", when=datetime.now(UTC))
Path("exported.py").write_text(code)
"""


def test_hooks_of_a_notebook_are_exported_by_their_source(tmp_path: Path) -> None:
    """A hook that no module offers comes with what it uses, and works in another process."""
    (tmp_path / "script.py").write_text(_SCRIPT)
    (tmp_path / "use.py").write_text(
        "from exported import environment\n"
        "kwargs = {}\n"
        "environment.on_execute({'n': 3}, kwargs)\n"
        "environment.on_start()\n"
        "print(kwargs, environment.secrets, 'none' in environment.extra)\n"
    )
    for script in ("script.py", "use.py"):
        ended = subprocess.run(
            [sys.executable, script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "{'n_workers': 6} (Secret('DASKENV_API_TOKEN'),) True\n"
    assert (tmp_path / "sized").exists()
    code = (tmp_path / "exported.py").read_text()
    assert "hunter2" not in code
    assert 'FACTOR = {"big": 2}\n' in code
    assert '    provider_kwargs["n_workers"] = larger( parameters["n"] )   # as it was' in code
    checked = _ruff("check", "--isolated", "--no-cache", tmp_path / "exported.py")
    assert checked.returncode == 0, checked.stdout
    tidy = code.replace("( p", "(p").replace('"] )   # as', '"])  # as')
    (tmp_path / "exported.py").write_text(tidy)
    formatted = _ruff("format", "--diff", "--isolated", "--no-cache", tmp_path / "exported.py")
    assert formatted.returncode == 0, formatted.stdout


@pytest.mark.parametrize(
    "registration",
    [
        {"flow": "flows.py:etl", "name": "etl", "work_pool_name": "pool"},
        {"flow": "flows:etl"},
        {
            "flow": "flows.py:etl",
            "parameters": {"text": "x" * 80, "at": ("a",)},
            "tags": ["é"] * 30,
        },
    ],
)
def test_a_registration_runs_with_the_module_alone(
    tmp_path: Path, registration: dict[str, Any]
) -> None:
    """The call is there for whoever runs the module, formatted, and importing does not call it."""
    code = python_module(
        DaskGatewayEnvironment("local"), source="here", when=WHEN, registration=registration
    )
    assert _imported(code) == DaskGatewayEnvironment("local")
    called = _called(code)
    assert called == ((registration["flow"],), {**registration, "flow": None})
    file = tmp_path / "environment.py"
    file.write_text(code)
    assert _ruff("format", "--check", "--isolated", file).returncode == 0
    if "name" in registration:
        assert code.endswith(
            '\nif __name__ == "__main__":\n'
            '    environment.register("flows.py:etl", name="etl", work_pool_name="pool")\n'
        )


def _called(code: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Tell what the call in a module is given."""
    call = ast.parse(code).body[-1]
    assert isinstance(call, ast.If)
    (expression,) = call.body
    assert isinstance(expression, ast.Expr)
    assert isinstance(expression.value, ast.Call)
    assert ast.unparse(expression.value.func) == "environment.register"
    named = {str(k.arg): ast.literal_eval(k.value) for k in expression.value.keywords}
    return tuple(map(ast.literal_eval, expression.value.args)), {**named, "flow": None}


@pytest.mark.parametrize(
    ("registration", "told"),
    [
        ({}, "name the flow as"),
        ({"flow": "etl"}, "flow='etl'; name the flow as"),
        ({"flow": "flows.py:etl", "build": lambda: 1}, "the registration cannot be exported"),
        ({"flow": "flows.py:etl", "image": "https://a:b@c"}, "holds no secrets"),
    ],
)
def test_a_registration_that_cannot_be_written_is_refused(
    registration: dict[str, Any], told: str
) -> None:
    """What is missing or has no written form is one sentence."""
    with pytest.raises(ExportError, match=told):
        python_module(
            DaskGatewayEnvironment("local"), source="here", when=WHEN, registration=registration
        )


def test_a_hook_that_takes_a_name_of_the_module_is_refused() -> None:
    """A hook named as what the module itself defines would be hidden by it."""

    def environment() -> None:
        """Stand for a function of the notebook."""

    with pytest.raises(ExportError, match=r"use the name 'environment'.*rename it"):
        _exported(DaskGatewayEnvironment("local", on_start=environment))


def test_a_function_of_a_module_without_a_file_is_refused() -> None:
    """A hook of a module that only this process has is refused."""
    import types

    module = types.ModuleType("conjured")
    exec("def hook(): pass", module.__dict__)
    sys.modules["conjured"] = module
    try:
        with pytest.raises(ExportError, match=r"the hook on_start .*'hook' has no source"):
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
