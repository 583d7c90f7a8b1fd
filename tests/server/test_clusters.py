"""The verbs over HTTP: who may call them, what they do, and what they say when they cannot."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from distributed import Client, LocalCluster

from daskenv_lab import registry
from daskenv_lab.lifecycle import up
from tests.server.conftest import Trap, record
from tests.server.jupyter import BASE, TOKEN, Jupyter, cookie_header, free_port
from tests.waiting import until

EACH = [
    ("GET", "clusters", None),
    ("GET", "clusters/trap", None),
    ("POST", "clusters/trap/scale", {"n": 1}),
    ("POST", "clusters/trap/adapt", {"minimum": 0, "maximum": 1}),
    ("POST", "clusters/trap/dashboard", {"pane": "status"}),
    ("POST", "clusters/trap/stop", {}),
    ("DELETE", "clusters/trap", None),
]


@pytest.mark.parametrize(("method", "path", "body"), EACH)
def test_a_login_is_needed(jupyter: Jupyter, trap: Trap, method: str, path: str, body: Any) -> None:
    """Nobody without a login learns or changes anything."""
    for headers in ({}, {"Authorization": "token wrong"}):
        answer = jupyter.raw(method, f"{BASE}daskenv/api/{path}", body=body, headers=headers)
        assert answer.status == 403
        assert b"trap" not in answer.body
    assert registry.read("trap")


@pytest.mark.parametrize(("method", "path", "body"), EACH[2:])
def test_a_login_by_cookie_needs_the_xsrf_token(
    jupyter: Jupyter, trap: Trap, method: str, path: str, body: Any
) -> None:
    """Another site cannot make a browser that is logged in change anything."""
    cookies = jupyter.login()
    sent = {"Cookie": cookie_header(cookies)}
    asked = f"{BASE}daskenv/api/{path}"
    assert jupyter.raw(method, asked, body=body, headers=sent).status == 403
    assert registry.read("trap")
    if not path.endswith("dashboard"):
        return
    sent["X-XSRFToken"] = cookies["_xsrf"]
    assert jupyter.raw(method, asked, body=body, headers=sent).status == 200
    # A page in a sandbox has no origin, and may not ask even with the token.
    answer = jupyter.raw(method, asked, body=body, headers={**sent, "Origin": "null"})
    assert answer.status == 404


def test_the_link_for_a_tab_needs_a_login_and_leads_to_a_ticket(
    jupyter: Jupyter, trap: Trap
) -> None:
    """Whoever is logged in gets a fresh ticket; others are sent to the login."""
    link = f"{BASE}daskenv/open/trap/task-stream"
    answer = jupyter.raw("GET", link)
    assert answer.status == 302
    assert "/login" in answer.headers["Location"]
    assert "dashboard" not in answer.headers["Location"]
    headers = {"Cookie": cookie_header(jupyter.login())}
    answer = jupyter.raw("GET", link, headers=headers)
    assert answer.status == 302
    assert jupyter.raw("GET", answer.headers["Location"]).body == b"hi"
    assert jupyter.raw("GET", f"{BASE}daskenv/open/trap/taskstream", headers=headers).status == 404


def test_names_and_states_are_told(jupyter: Jupyter, gateway_cluster: str) -> None:
    """The list holds names alone, and one cluster is told as `ClusterInfo` tells it."""
    assert gateway_cluster in jupyter.ask("GET", "clusters").json
    told = jupyter.ask("GET", f"clusters/{gateway_cluster}").json
    assert told["name"] == gateway_cluster
    assert told["status"] == "running"
    assert told["clients"] == 0
    assert "password" not in str(told)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "clusters/tarp", None, 404, "no cluster is named 'tarp'; did you mean 'trap'?"),
        ("GET", "clusters/%2e%2e%2ftrap", None, 400, "'../trap' cannot name a cluster"),
        ("GET", "clusters/trap%00", None, 400, "cannot name a cluster"),
        ("GET", "clusters/<script>", None, 400, "cannot name a cluster"),
        ("DELETE", "clusters/tarp", None, 404, "no cluster is named 'tarp'"),
        ("POST", "clusters/tarp/scale", {"n": 1}, 404, "no cluster is named 'tarp'"),
        ("POST", "clusters/tarp/dashboard", {}, 404, "no cluster is named 'tarp'"),
        ("POST", "clusters/trap/scale", {"n": 1}, 409, "exists already and cannot be scaled"),
        ("POST", "clusters/trap/scale", {}, 400, "the number of workers is missing"),
        ("POST", "clusters/trap/scale", {"n": "3"}, 400, "n is '3'; it takes a whole number"),
        ("POST", "clusters/trap/scale", {"n": True}, 400, "n is True; it takes a whole number"),
        ("POST", "clusters/trap/scale", {"n": -1}, 400, "n is -1; it takes a whole number"),
        ("POST", "clusters/trap/scale", {"m": 1}, 400, "a JSON object with n alone"),
        ("POST", "clusters/trap/scale", [1], 400, "a JSON object with n alone"),
        ("POST", "clusters/trap/stop", {"n": 1}, 400, "a JSON object with nothing in it"),
        ("POST", "clusters/tarp/stop", {}, 404, "no cluster is named 'tarp'"),
        ("POST", "clusters/trap/adapt", {}, 400, "both bounds are missing"),
        ("POST", "clusters/trap/adapt", {"maximum": 1.5}, 400, "maximum is 1.5; it takes"),
        ("POST", "clusters/trap/dashboard", {"pane": "cpuu"}, 404, "did you mean 'cpu'?"),
        ("POST", "clusters/trap/dashboard", {"pane": ["cpu"]}, 400, "the pane is ['cpu']"),
        ("POST", "clusters/trap/dashboard", {"pane": "../x"}, 404, "has no pane '../x'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    jupyter: Jupyter, trap: Trap, method: str, path: str, body: Any, status: int, said: str
) -> None:
    """Wrong names, numbers and panes are told with a status that fits."""
    answer = jupyter.ask(method, path, body)
    assert (answer.status, said in answer.message) == (status, True), answer.body


def test_a_body_that_is_no_json_is_told(jupyter: Jupyter, trap: Trap) -> None:
    """Not only a sentence about the server's inside."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", jupyter.port, timeout=120)
    with contextlib.closing(connection):
        headers = {"Authorization": f"token {TOKEN}"}
        connection.request("POST", f"{BASE}daskenv/api/clusters/trap/scale", "{n", headers)
        answer = connection.getresponse()
        assert answer.status == 400
        assert b"is no JSON" in answer.read()


def test_a_dead_cluster_is_told(jupyter: Jupyter) -> None:
    """A record whose cluster is gone gives its sentence, and no address."""
    record("dead", f"tcp://127.0.0.1:{free_port()}")
    try:
        for method, path in (("GET", "clusters/dead"), ("POST", "clusters/dead/dashboard")):
            answer = jupyter.ask(method, path)
            assert answer.status == 410
            assert "no scheduler answers at tcp://127.0.0.1" in answer.message
    finally:
        registry.forget("dead")


def test_a_cluster_that_died_after_its_page_was_opened_is_told(
    jupyter: Jupyter, plain_cluster: LocalCluster
) -> None:
    """The page says what happened, although the address was known a moment ago."""
    path = jupyter.open("plain")
    assert jupyter.raw("GET", path).status == 200
    plain_cluster.close(timeout=120)
    answer = jupyter.raw("GET", path)
    assert answer.status in (410, 502)
    until(lambda: jupyter.raw("GET", path).status == 410)
    assert b"no scheduler answers at" in jupyter.raw("GET", path).body


def test_a_ticket_does_not_outlive_the_record(jupyter: Jupyter, trap: Trap) -> None:
    """Only clusters in the record are shown, and never another that took the name."""
    record("other", trap.cluster.scheduler_address)
    path = jupyter.open("other")
    assert jupyter.raw("GET", path).status == 200
    record("other", trap.cluster.scheduler_address.replace("127.0.0.1", "localhost"))
    answer = jupyter.raw("GET", path)
    assert answer.status == 410
    assert b"is another one by now" in answer.body
    registry.forget("other")
    assert jupyter.raw("GET", path).status == 404


def test_no_client_stays_connected(jupyter: Jupyter, plain_cluster: LocalCluster) -> None:
    """A client that stayed would keep the cluster alive."""
    jupyter.open("plain")
    assert jupyter.ask("GET", "clusters/plain").json["clients"] == 0
    with Client(plain_cluster.scheduler_address, set_as_default=False) as client:
        ids = until(lambda: _others(client) == [] or None)
        assert ids


def _others(client: Client) -> list[str]:
    told = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.clients))
    return [c for c in told if c not in (client.id, "fire-and-forget")]


def test_looking_counts_as_no_activity(jupyter: Jupyter, trap: Trap) -> None:
    """Neither pages nor states keep an idle server alive; changing something does."""
    before = jupyter.last_activity()
    path = jupyter.open(trap.name)
    jupyter.raw("GET", path)
    jupyter.ask("GET", "clusters")
    jupyter.ask("GET", "clusters/trap")
    assert jupyter.last_activity() == before
    jupyter.ask("POST", "clusters/trap/scale", {"n": 1})
    assert jupyter.last_activity() > before


@pytest.mark.slow
def test_a_cluster_is_sized_and_destroyed_without_any_kernel(jupyter: Jupyter) -> None:
    """What a dead kernel left is scaled, made adaptive, and taken down."""
    up("local", name="orphan", n_workers=1).close()
    assert jupyter.ask("POST", "clusters/orphan/scale", {"n": 2}).status == 200
    until(lambda: len(jupyter.ask("GET", "clusters/orphan").json["workers"]) == 2)
    told = jupyter.ask("POST", "clusters/orphan/adapt", {"minimum": 1, "maximum": 2})
    assert told.json["adaptive"] == [1, 2]
    path = jupyter.open("orphan")
    assert jupyter.raw("GET", path).status == 200
    answer = jupyter.ask("DELETE", "clusters/orphan")
    assert (answer.status, answer.message) == (200, "Stopped orphan")
    assert registry.read("orphan") is None
    assert jupyter.raw("GET", path).status == 404
    assert jupyter.ask("DELETE", "clusters/orphan").status == 404
