"""The parts that need no server: commands, addresses, rules, values."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from daskenv_lab.errors import ConfigError
from daskenv_lab.rehearsal import Fault, Latency
from daskenv_lab.rehearsal.addresses import claim, nowhere
from daskenv_lab.rehearsal.command import NotInImage, found, on_address
from daskenv_lab.rehearsal.rules import admits

HOST = "127.77.0.9"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ["dask-scheduler", "--port", "9000"],
            ["dask-scheduler", "--host", HOST, "--dashboard-address", f"{HOST}:8787", "--port"],
        ),
        (
            ["/opt/bin/python3.11", "-m", "distributed.cli.dask_worker", "tcp://a:1"],
            ["/opt/bin/python3.11", "-m", "distributed.cli.dask_worker", "--host", HOST],
        ),
        (["dask", "worker", "tcp://a:1"], ["dask", "worker", "--host", HOST]),
        (["dask", "cuda", "worker", "tcp://a:1"], ["dask", "cuda", "worker", "--host", HOST]),
        (
            ["python", "-m", "dask", "scheduler"],
            ["python", "-m", "dask", "scheduler", "--host", HOST],
        ),
        (
            ["dask-worker", "--host", "tls://0.0.0.0:1", "--no-dashboard"],
            ["dask-worker", "--host", f"tls://{HOST}:1", "--no-dashboard"],
        ),
        (
            ["dask-scheduler", "--host=0.0.0.0", "--dashboard-address=:8789"],
            ["dask-scheduler", f"--host={HOST}", f"--dashboard-address={HOST}:8789"],
        ),
        (
            ["dask-worker", "--listen-address", "tcp://0.0.0.0:9", "--dashboard-address", "1"],
            ["dask-worker", "--listen-address", f"tcp://{HOST}:9", "--dashboard-address"],
        ),
        (["dask-scheduler", "--host", "127.0.0.1", "--no-dashboard"], None),
        (["sleep", "1"], None),
        (["python", "-c", "dask-worker"], None),
        ([], None),
    ],
)
def test_dask_programs_listen_on_the_tasks_address(command, expected):
    """All ways to start a scheduler or worker are known, and what was given is kept."""
    told = on_address(command, HOST)
    assert told[: len(expected or command)] == (expected or command)
    assert all(word in told or HOST in " ".join(told) for word in command)


def test_programs_are_looked_for_in_the_image_only(tmp_path):
    """Python is always there, and another program where the PATH has it."""
    assert found(["python3", "-V"], str(tmp_path)) == [sys.executable, "-V"]
    with pytest.raises(NotInImage):
        found(["sleep"], str(tmp_path))
    (tmp_path / "sleep").touch(0o755)
    assert found(["sleep"], str(tmp_path)) == [str(tmp_path / "sleep")]


def test_a_claimed_address_is_not_given_twice():
    """An address is somebody else's only after its release."""
    first = claim("127.77.200.0/29")
    rest = [claim("127.77.200.0/29") for _ in range(2)]
    with pytest.raises(OSError, match="is free"):
        claim("127.77.200.0/29")
    assert len({c.private for c in (first, *rest)}) == 3
    assert first.public == first.private.replace(".77.", ".78.")
    assert nowhere(first.private) == first.private.replace(".77.", ".79.")
    first.release()
    again = claim("127.77.200.0/29")
    assert again.private == first.private
    for each in (again, *rest):
        each.release()


def _rule(protocol="tcp", ports=(8786, 8787), cidr=None, cidr6=None, group=None):
    return SimpleNamespace(
        ip_protocol=protocol,
        from_port=ports[0],
        to_port=ports[1],
        cidr_ipv4=cidr,
        cidr_ipv6=cidr6,
        source_group={"GroupId": group} if group else {},
    )


@pytest.mark.parametrize(
    ("rule", "source", "groups", "allowed"),
    [
        (_rule(cidr="10.0.0.0/8"), "10.1.2.3", (), True),
        (_rule(cidr="10.0.0.0/8"), "11.1.2.3", (), False),
        (_rule(cidr="10.0.0.0/8"), "0.0.0.0/0", (), False),
        (_rule(cidr="0.0.0.0/0"), "2001:db8::1", (), False),
        (_rule(cidr6="2001:db8::/32"), "2001:db8::1", (), True),
        (_rule(group="sg-1"), "10.0.0.1", ("sg-1",), True),
        (_rule(group="sg-1"), "10.0.0.1", ("sg-2",), False),
        (_rule("-1", (None, None), "10.0.0.1/32"), "10.0.0.1", (), True),
        (_rule("udp", cidr="0.0.0.0/0"), "10.0.0.1", (), False),
        (_rule(ports=(1, 8785), cidr="0.0.0.0/0"), "10.0.0.1", (), False),
    ],
)
def test_rules_are_read_as_aws_does(rule, source, groups, allowed):
    """Protocol, ports, CIDRs of both families, and groups all count."""
    group = SimpleNamespace(id="sg-0", ingress_rules=[rule])
    told = admits([group], 8786, source, groups)
    assert told.allowed is allowed
    assert bool(told.rule) is allowed
    assert source in told.reason


def test_latency_reads_profiles_and_steps():
    """Names and mappings work, and what is misspelt or negative does not."""
    assert Latency.of("none") == Latency.of(None) == Latency()
    assert Latency.of({"image-pull": 1, "api": 0.5}) == Latency(image_pull=1.0, api=0.5)
    for bad in ("slow", {"image": 1}, {"api": -1}, {"api": True}, 5):
        with pytest.raises(ConfigError):
            Latency.of(bad)


def test_faults_travel_as_dictionaries():
    """What the server reads back is what was ordered."""
    fault = Fault(kind="hold-after", operation="ecs:RunTask", times=1, after=3, seconds=2.0)
    assert Fault.from_dict(fault.to_dict()) == fault
