"""An AWS account made ready, its permissions printed, and examined."""

from __future__ import annotations

import json

import pytest

from daskenv_lab import rehearsal

from .conftest import AtTerminal, Verb


def _states(verb: Verb) -> set[str]:
    told = verb("bootstrap", "--dry-run", "--json").stdout
    return {part["state"] for part in json.loads(told)}


@pytest.mark.usefixtures("account")
def test_the_shared_set_is_shown_made_and_removed(verb: Verb) -> None:
    """What is made is shown before; again changes nothing; it can all be removed."""
    assert _states(verb) == {"missing"}
    made = verb("bootstrap").stdout
    assert made.index("missing") < made.index("Made or mended ECS cluster daskenv")
    again = verb("bootstrap", "--json")
    assert {part["state"] for part in json.loads(again.stdout)} == {"exists"}
    assert "missing" not in again.stderr
    assert "Would remove ECS cluster daskenv" in verb("bootstrap", "--remove", "--dry-run").stdout
    assert "ECS cluster daskenv" in json.loads(verb("bootstrap", "--remove", "--json").stdout)
    assert verb("bootstrap", "--remove").stdout == "Nothing to remove\n"


@pytest.mark.slow
@pytest.mark.usefixtures("account")
def test_nothing_is_made_or_removed_at_a_terminal_without_a_yes(
    verb: Verb, at_terminal: AtTerminal
) -> None:
    """A no leaves the account as it is."""
    code, shown = at_terminal("bootstrap", answer="n")
    assert "Create these? [y/N]" in shown
    assert "Nothing was changed" in shown
    assert code == 1
    assert _states(verb) == {"missing"}
    verb("bootstrap")
    code, shown = at_terminal("bootstrap", "--remove", answer="n")
    assert "log group /daskenv" in shown
    assert code == 1
    assert _states(verb) == {"exists"}


@pytest.mark.slow
@pytest.mark.usefixtures("account")
def test_the_first_up_in_an_account_offers_to_make_the_set(
    verb: Verb, at_terminal: AtTerminal
) -> None:
    """At a terminal it asks, and goes on after a yes; elsewhere the sentence names the command."""
    arguments = ("up", "fargate", "--name", "first", "--allow-from", "127.0.0.1")
    refused = verb(*arguments, code=1)
    assert "`daskenv bootstrap`" in refused.stderr
    assert "[y/N]" not in refused.output
    # That it goes on is seen by how it ends, without a whole cluster.
    rehearsal.order(rehearsal.Fault(kind="denied", operation="ecs:RunTask"))
    code, shown = at_terminal(*arguments, answer="y")
    assert code == 1
    assert shown.index("missing") < shown.index("Create these?") < shown.index("RunTask")
    assert _states(verb) == {"exists"}


@pytest.mark.usefixtures("account")
def test_up_makes_the_set_when_told_so_beforehand(verb: Verb) -> None:
    """`up --bootstrap` asks nobody."""
    rehearsal.order(rehearsal.Fault(kind="denied", operation="ecs:RunTask"))
    asked = ("up", "fargate", "--bootstrap", "--allow-from", "127.0.0.1")
    assert "RunTask" in verb(*asked, code=1).stderr
    assert _states(verb) == {"exists"}


@pytest.mark.usefixtures("account")
def test_a_policy_is_for_this_account(verb: Verb) -> None:
    """The policy is JSON alone, with the account's number, for either purpose."""
    for kind in ("bootstrap", "use"):
        printed = verb("bootstrap", "--policy", kind)
        assert json.loads(printed.stdout)["Version"] == "2012-10-17"
        assert ":123456789012:" in printed.stdout
        assert printed.stderr == ""


@pytest.mark.usefixtures("no_account")
def test_a_policy_without_an_account_is_for_any(verb: Verb) -> None:
    """Who has no credentials yet gets the policy too, and a warning in plain words."""
    printed = verb("bootstrap", "--policy", "use")
    assert "arn:aws:ecs:*:*:cluster/daskenv" in printed.stdout
    assert json.loads(printed.stdout)["Statement"]
    assert printed.stderr.startswith("Warning: the policy is for any account")
    assert ".py" not in printed.stderr


@pytest.mark.usefixtures("account")
def test_the_doctor_tells_what_is_good_and_what_is_bad(verb: Verb) -> None:
    """Something bad ends with exit code 1, and each finding says what to do."""
    # The emulator has no simulator of policies, and fails where it is asked.
    rehearsal.order(rehearsal.Fault(kind="denied", operation="iam:SimulatePrincipalPolicy"))
    found = json.loads(verb("doctor", "fargate", "--json", code=1).stdout)
    assert all(finding["step"] for finding in found if finding["result"] == "bad")
    verb("bootstrap")
    told = verb("doctor", "fargate", "--rehearse").stdout
    assert told.startswith("result")
    assert "\nbad" not in told
