"""What of files and folders is a module, what is a secret, and what is shipped twice or not."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from prefect import Flow, flow

from daskenv_lab.errors import CodeError
from daskenv_lab.flows.sync import declare, declared, gather, withdraw

Write = Callable[[dict[str, str]], None]


def _importing(module: str) -> Flow[..., Any]:
    """Make a flow as a notebook's cell would, which imports a module."""
    space: dict[str, Any] = {"flow": flow, "__name__": "__main__"}
    exec(f"@flow\ndef etl():\n    import {module}", space)
    made: Flow[..., Any] = space["etl"]
    return made


def test_data_is_no_module(folder: Path, tree: Write) -> None:
    """Files and folders of data in a declared folder take no module away from the workers."""
    data = ["prefect.yaml", "dask.yaml", "logging.conf", "json/x.csv", "data/deep/x.csv"]
    odd = ["types/script.py", "two.parts.py", "__main__.py", "pack/x.csv"]
    modules = ["good.py", "pack/__init__.py", "spread/deep/one.py"]
    tree(dict.fromkeys([*data, *odd, *modules], ""))
    declare(".")
    gathered = gather()
    assert gathered.names == ("good", "pack", "spread")
    assert set(gathered.tree.files) == {*data, *odd, *modules}


@pytest.mark.parametrize("module", ["antigravity.py", "yaml/__init__.py", "prefect.py"])
def test_a_folder_with_a_name_of_others_is_refused(folder: Path, tree: Write, module: str) -> None:
    """A module in it that would hide what workers need is told when it is declared, and later."""
    tree({f"first/{module}": "", "second/good.py": ""})
    with pytest.raises(CodeError, match="which the workers themselves need; rename it"):
        declare("first")
    assert declared() == ()
    declare("second")
    tree({f"second/{module}": ""})
    with pytest.raises(CodeError, match="which the workers themselves need; rename it"):
        gather()


def test_data_beside_a_module_does_not_stand_for_it(folder: Path, tree: Write) -> None:
    """Where the data of a module's name is declared, the module is found all the same."""
    tree({"settings_of.yaml": "", "settings_of.py": ""})
    declare("settings_of.yaml")
    gathered = gather(_importing("settings_of"))
    assert set(gathered.tree.files) == {"settings_of.py", "settings_of.yaml"}
    assert gathered.names == ("settings_of",)


def test_a_module_is_put_where_imports_look_for_it(
    folder: Path, tree: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a folder on Python's path lies there too when the folder above it is declared."""
    tree({"src/inside.py": "", "beside.py": "", "src/pack/__init__.py": ""})
    monkeypatch.syspath_prepend(folder / "src")
    declare(".")
    files = set(gather(_importing("inside, beside, pack")).tree.files)
    assert {"inside.py", "src/inside.py", "beside.py", "pack/__init__.py"} <= files
    tree({"inside.py": "OTHER = 1"})
    with pytest.raises(CodeError, match=r"would be inside\.py on the workers"):
        gather(_importing("inside"))


def test_what_was_declared_and_is_gone_is_told_with_the_way_out(folder: Path, tree: Write) -> None:
    """The sentence names the verb that takes it back, and it does."""
    tree({"gone for good.py": ""})
    declare("gone for good.py")
    (folder / "gone for good.py").unlink()
    with pytest.raises(CodeError, match=r"daskenv sync --remove '.*gone for good\.py'"):
        gather()
    withdraw("gone for good.py")
    assert gather().tree.files == {}


def test_secrets_of_common_names_stay_here(folder: Path, tree: Write) -> None:
    """A package leaves them out, and links that lead to them; modules of these names are code."""
    secrets = [
        *("secrets.yaml", "secrets.toml", "secrets.json", "secret.txt", "token.json"),
        *("token.pickle", "gcp_credentials.json", "my-credential-file.csv", "apple.p8"),
        *("kubeconfig", "kubeconfig-dev.yaml", ".env", "credentials"),
    ]
    code = ["__init__.py", "secrets.py", "credentials.py", "token.py", "tokens.csv"]
    tree({f"holder/{name}": "" for name in (*secrets, *code)})
    (folder / "holder" / "harmless.txt").symlink_to(folder / "holder" / ".env")
    (folder / "holder" / "round").symlink_to(folder / "holder" / "round")
    (folder / "known.yaml").symlink_to(folder / "holder" / ".env")
    gathered = gather(_importing("holder"))
    assert sorted(gathered.tree.files) == sorted(f"holder/{name}" for name in code)
    left_out = " ".join(gathered.tree.left_out)
    for name in (*secrets, "harmless.txt"):
        assert f"holder/{name} (it looks like a secret)" in left_out
    with pytest.raises(CodeError, match="looks like a secret"):
        declare("known.yaml")


def test_a_folder_whose_name_is_no_text_is_left_out(folder: Path, tree: Write) -> None:
    """A name of any bytes, as Linux allows, cannot be written into an archive."""
    tree({"holds/__init__.py": ""})
    odd = folder / "holds" / os.fsdecode(b"donn\xe9es")
    odd.mkdir()
    (odd / "x.txt").touch()
    gathered = gather(_importing("holds"))
    assert set(gathered.tree.files) == {"holds/__init__.py"}
    assert "(its name is no text)" in gathered.tree.left_out[0]


def test_a_flow_keeps_travelling_while_its_subflow_is_looked_at(folder: Path, tree: Write) -> None:
    """Its module travels by value until it is shipped, and does not with another flow's look."""
    text = "from prefect import flow\nclass Box: pass\n@flow\ndef etl(): pass\n"
    tree({"flows_above.py": text, "flows_below.py": text})
    above: Any = importlib.import_module("flows_above")
    below: Any = importlib.import_module("flows_below")

    def travels(module: Any) -> bool:
        return module.__name__ in cloudpickle.list_registry_pickle_by_value()

    gather(above.etl)
    gather(below.etl)
    assert travels(above)
    assert travels(below)
    gather(_importing("flows_above"))
    assert not travels(above)
    assert travels(below)
    cloudpickle.unregister_pickle_by_value(below)
