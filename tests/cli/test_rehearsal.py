"""The rehearsal from the command line: started, looked at, told to fail, and stopped."""

from __future__ import annotations

import json
import re

import botocore.session
import click
import pytest

from daskenv_lab.cli.rehearsal import rehearse
from daskenv_lab.rehearsal import FAULT_KINDS, LATENCY_PROFILES

from .conftest import Verb

pytestmark = pytest.mark.usefixtures("own_rehearsal")


def test_faults_are_ordered_and_taken_back(verb: Verb) -> None:
    """`order` alone lists the kinds; what is ordered stands in `faults` until `clear`."""
    told = verb("rehearse", "order").stdout
    assert all(kind in told for kind in FAULT_KINDS)
    verb("rehearse", "start")
    verb("rehearse", "order", "slow", "--operation", "ecs:RunTask", "--seconds", "10ms")
    [fault] = json.loads(verb("rehearse", "faults", "--json").stdout)
    assert (fault["kind"], fault["operation"], fault["seconds"]) == ("slow", "ecs:RunTask", 0.01)
    verb("rehearse", "order", "no-capacity", "--times", "2")
    assert verb("rehearse", "faults").stdout.splitlines() == [
        "slow: operation=ecs:RunTask, seconds=0.01, until it is cleared",
        "no-capacity: times=2",
    ]
    verb("rehearse", "clear")
    assert verb("rehearse", "faults").stdout == "No fault is ordered\n"
    assert "did you mean 'throttle'" in verb("rehearse", "order", "throtle", code=1).stderr


def test_a_rehearsal_is_started_looked_at_and_stopped(verb: Verb) -> None:
    """`status --json` opens the way for any AWS client, and the plain form can be copied."""
    verb("rehearse", "stop")
    assert "No rehearsal runs" in verb("rehearse", "status").stdout
    assert json.loads(verb("rehearse", "status", "--json").stdout) is None
    started = verb("rehearse", "start", "--latency", "none").stdout
    assert verb("rehearse", "start").stdout == started
    here = json.loads(verb("rehearse", "status", "--json").stdout)
    line = verb("rehearse", "status").stdout.splitlines()[1]
    copied = dict(re.findall(r"(\w+)=(\S+)", line))
    assert copied["AWS_ENDPOINT_URL"] == here["endpoint"]
    assert copied["AWS_DEFAULT_REGION"] == here["region"]
    client = botocore.session.Session().create_client(
        "sts",
        endpoint_url=here["endpoint"],
        region_name=here["region"],
        aws_access_key_id=copied["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=copied["AWS_SECRET_ACCESS_KEY"],
    )
    assert client.get_caller_identity()["Account"] == here["account"]
    assert verb("rehearse", "stop").stdout == "Stopped the rehearsal\n"
    assert verb("rehearse", "stop").stdout == "No rehearsal was running\n"
    assert "no rehearsal runs" in verb("rehearse", "faults", code=1).stderr


def test_the_profiles_of_latency_are_those_that_there_are() -> None:
    """The choices of `--latency`, which are written down twice, are the same."""
    [latency] = [p for p in rehearse.commands["start"].params if p.name == "latency"]
    assert isinstance(latency.type, click.Choice)
    assert list(latency.type.choices) == list(LATENCY_PROFILES)
