"""From where a scheduler may be reached: the caller's address, and the rules of our group."""

from __future__ import annotations

import http.server
import ipaddress
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskenv_lab.errors import EnvironmentValueError, ProviderUnreachable
from daskenv_lab.providers.fargate import ingress, shared
from daskenv_lab.providers.fargate.aws import Aws, Credentials
from daskenv_lab.providers.fargate.ingress import OpenToTheWorldWarning, caller_cidr

REAL = Aws(region="eu-west-1", credentials=Credentials(key_id="AKIAEXAMPLE", secret="x"))
"""An account that is never called."""


@given(st.ip_addresses())
def test_an_address_becomes_a_cidr_of_itself(address: ipaddress.IPv4Address) -> None:
    """One address, of either kind, is let in alone."""
    cidr = caller_cidr(f" {address} ", aws=REAL, private=False)
    assert ipaddress.ip_network(cidr).num_addresses == 1
    assert ipaddress.ip_network(cidr).network_address == address


@pytest.mark.parametrize(
    ("written", "cidr"),
    [
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("2001:db8::1/64", "2001:db8::/64"),
    ],
)
def test_a_cidr_is_taken_as_it_is_meant(written: str, cidr: str) -> None:
    """The bits of the host do not matter, and nothing up to a /8 warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert caller_cidr(written, aws=REAL, private=False) == cidr


@pytest.mark.parametrize("written", ["0.0.0.0/0", "::/0", "128.0.0.0/1", "10.0.0.0/7", "2000::/3"])
def test_opening_to_the_world_warns(written: str) -> None:
    """Large parts of the internet are let in only when told so, with a warning."""
    with pytest.warns(OpenToTheWorldWarning, match="--allow-from"):
        assert caller_cidr(written, aws=REAL, private=False) == written


@pytest.mark.parametrize("written", ["", "everybody", "10.0.0", "10.0.0.0/33", "::/129"])
def test_what_is_no_address_is_refused(written: str) -> None:
    """The error names the value and the forms that are taken."""
    with pytest.raises(EnvironmentValueError, match=r"192\.0\.2\.0/24"):
        caller_cidr(written, aws=REAL, private=False)


def test_the_caller_of_a_rehearsal_is_this_machine(empty_aws: Aws) -> None:
    """Nothing is asked of anybody."""
    assert caller_cidr(None, aws=empty_aws, private=False) == "127.0.0.1/32"


@contextmanager
def answering(answer: bytes, status: int = 200) -> Iterator[None]:
    """Run a web server that gives one answer, as the service for addresses."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with serviced(f"http://127.0.0.1:{server.server_port}"):
            yield
        server.shutdown()


@contextmanager
def serviced(address: str) -> Iterator[None]:
    """Take this address for the service."""
    with dask.config.set({"daskenv.fargate.address-service": address}):
        yield


def test_the_address_is_asked_of_the_service() -> None:
    """The service's plain text becomes a CIDR."""
    with answering(b"198.51.100.4\n"):
        assert caller_cidr(None, aws=REAL, private=False) == "198.51.100.4/32"
    with answering(b"2001:db8::4"):
        assert caller_cidr(None, aws=REAL, private=False) == "2001:db8::4/128"


@pytest.mark.parametrize(
    ("answer", "status"), [(b"<html>log in first</html>", 200), (b"", 200), (b"no", 503)]
)
def test_a_service_that_gives_no_address_is_named(answer: bytes, status: int) -> None:
    """A hotel's login page, say, ends in one sentence with the next step."""
    with answering(answer, status), pytest.raises(ProviderUnreachable, match="--allow-from"):
        caller_cidr(None, aws=REAL, private=False)


def test_a_service_that_names_a_network_is_not_believed() -> None:
    """Only the address of one machine is taken from the service."""
    with answering(b"0.0.0.0/0"), pytest.raises(ProviderUnreachable):
        caller_cidr(None, aws=REAL, private=False)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "file:///etc/hostname", "nonsense"])
def test_a_service_that_is_not_there_is_named(address: str) -> None:
    """Nobody answers, or it is no web address."""
    with serviced(address), pytest.raises(ProviderUnreachable, match="address-service"):
        caller_cidr(None, aws=REAL, private=False)


def test_a_silent_service_does_not_hold_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time limit ends the asking."""
    monkeypatch.setattr(ingress, "_LIMIT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with serviced(f"http://127.0.0.1:{port}"), pytest.raises(ProviderUnreachable):
            caller_cidr(None, aws=REAL, private=False)


@pytest.fixture
def group(empty_aws: Aws) -> str:
    """Give the shared security group."""
    made = shared.ensure(empty_aws, {}, progress=print)
    assert made.own_group is not None
    return made.own_group


def rules(aws: Aws, group: str) -> dict[str, tuple[int, int, str]]:
    """Read the ports and the description of each CIDR in a group."""
    [found] = aws.call("ec2", "describe_security_groups", GroupIds=[group])["SecurityGroups"]
    return {
        r.get("CidrIp", r.get("CidrIpv6")): (p["FromPort"], p["ToPort"], r.get("Description", ""))
        for p in found["IpPermissions"]
        for r in [*p.get("IpRanges", ()), *p.get("Ipv6Ranges", ())]
    }


def test_an_address_is_let_in_once_to_the_two_ports(empty_aws: Aws, group: str) -> None:
    """Allowing again changes nothing, and the description is of letters that AWS takes."""
    for _ in range(2):
        ingress.allow(empty_aws, group, "192.0.2.7/32", who="ada@here dév <1>")
    ingress.allow(empty_aws, group, "2001:db8::/64", who="ada@here")
    assert rules(empty_aws, group) == {
        "192.0.2.7/32": (8786, 8787, "daskenv ada@here d_v _1_"),
        "2001:db8::/64": (8786, 8787, "daskenv ada@here"),
    }


def test_only_what_no_cluster_wants_is_taken_back(empty_aws: Aws, group: str) -> None:
    """Rules of running clusters and of other people stay."""
    for cidr in ("192.0.2.1/32", "192.0.2.2/32", "2001:db8::/64"):
        ingress.allow(empty_aws, group, cidr, who="ada@here")
    empty_aws.call(
        "ec2",
        "authorize_security_group_ingress",
        GroupId=group,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 22,
                "ToPort": 22,
                "IpRanges": [{"CidrIp": "192.0.2.3/32", "Description": "an administrator"}],
            }
        ],
    )
    gone = ingress.withdraw(empty_aws, group, wanted=lambda: {"192.0.2.1/32"})
    assert sorted(gone) == ["192.0.2.2/32", "2001:db8::/64"]
    assert set(rules(empty_aws, group)) == {"192.0.2.1/32", "192.0.2.3/32"}
    assert ingress.withdraw(empty_aws, group, wanted=lambda: {"192.0.2.1/32"}) == []
    assert shared.find(empty_aws, {}) is not None


def test_a_rule_that_is_made_while_others_are_taken_back_stays(empty_aws: Aws, group: str) -> None:
    """The rules are read first: what `wanted` does not know yet cannot be among them."""
    ingress.allow(empty_aws, group, "192.0.2.1/32", who="ada@here")

    def wanted() -> set[str]:
        ingress.allow(empty_aws, group, "192.0.2.9/32", who="bob@there")
        return set()

    assert ingress.withdraw(empty_aws, group, wanted=wanted) == ["192.0.2.1/32"]
    assert set(rules(empty_aws, group)) == {"192.0.2.9/32"}


def test_a_rule_that_somebody_counted_on_is_put_back(empty_aws: Aws, group: str) -> None:
    """A cluster from the same address started between the look and the taking back."""
    ingress.allow(empty_aws, group, "192.0.2.1/32", who="ada@here")
    before = rules(empty_aws, group)
    answers = iter([set(), {"192.0.2.1/32"}])
    assert ingress.withdraw(empty_aws, group, wanted=lambda: next(answers)) == []
    assert rules(empty_aws, group) == before


def test_a_group_without_our_tags_is_left_alone(empty_aws: Aws) -> None:
    """The rules of the user's own groups are the user's, whatever they are called."""
    theirs = empty_aws.call(
        "ec2", "create_security_group", GroupName="theirs", Description="theirs"
    )["GroupId"]
    try:
        ingress.allow(empty_aws, theirs, "192.0.2.1/32", who="ada@here")
        assert ingress.withdraw(empty_aws, theirs, wanted=set) == []
        assert set(rules(empty_aws, theirs)) == {"192.0.2.1/32"}
    finally:
        empty_aws.call("ec2", "delete_security_group", GroupId=theirs)
