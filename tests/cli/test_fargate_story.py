"""The story of a cluster in AWS, rehearsed, from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from .conftest import Verb

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(verb: Verb, own_rehearsal: None, no_account: None) -> Iterator[str]:
    """Start a cluster that everybody may reach, which is told."""
    ended = verb(
        "up", "fargate", "--rehearse", "--name", "sky", "--workers", "1",
        "--allow-from", "0.0.0.0/0",
    )  # fmt: skip
    assert ended.stdout.startswith("Started sky: 1 worker\n")
    assert "Warning: 0.0.0.0/0 lets the whole internet" in ended.stderr
    yield "sky"
    verb("down", "sky")
    assert "no clusters" in verb("ls", "--rehearse").stdout


def test_a_cluster_in_aws_is_told_kept_and_examined(cluster: str, verb: Verb) -> None:
    """Each verb works on it as on a local one, and some do more."""
    assert "stops in" in verb("status", cluster).stdout
    assert "lives until" in verb("keep-alive", cluster, "2h").stdout
    assert json.loads(verb("status", cluster, "--json").stdout)["stops_in"] > 3600
    told = verb("ls", "fargate", "--rehearse").stdout
    assert told.count(cluster) == 1
    assert "--- scheduler" in verb("logs", "--name", cluster, "--lines", "2").stdout
    assert verb("reap", "fargate", "--rehearse", "--idle", "0").stdout == "Nothing to remove\n"
    assert "\nbad" not in verb("doctor", "--name", cluster).stdout


def test_logs_are_followed_until_ctrl_c(cluster: str, verb: Verb) -> None:
    """Ctrl-C is the way to end following, and no error."""
    command = [sys.executable, "-m", "daskenv_lab.cli", "logs", "--name", cluster, "--follow"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=120)
    assert ": " in first
    assert process.returncode == 0, rest + said
    assert "Traceback" not in said
