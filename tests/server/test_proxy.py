"""What a dashboard's pages may do, and what a hostile one cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.server.conftest import Trap
from tests.server.jupyter import BASE, TOKEN, Jupyter, serving

BROWSERS = {
    "Accept": "text/html",
    "Authorization": f"token {TOKEN}",
    "Cookie": "_xsrf=2|abc; username-127-0-0-1=secret-login",
    "Forwarded": "for=192.0.2.1",
    "Origin": "null",
    "Referer": "http://127.0.0.1/user/ada/lab?token=secret",
    "Sec-Fetch-Site": "cross-site",
    "User-Agent": "A browser",
    "X-Forwarded-For": "192.0.2.1",
    "X-Real-Ip": "192.0.2.1",
    "X-XSRFToken": "2|abc",
}


def test_a_page_needs_no_cookie_and_is_in_a_sandbox(jupyter: Jupyter, gateway_cluster: str) -> None:
    """A Gateway's dashboard comes whole, behind its path prefix, with its scripts."""
    path = jupyter.open(gateway_cluster, "task-stream")
    assert path.startswith(f"{BASE}daskenv/dashboard/")
    page = jupyter.raw("GET", path)
    assert page.status == 200
    assert (
        page.headers["Content-Security-Policy"] == "sandbox allow-scripts; frame-ancestors 'self'"
    )
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in page.headers
    script = re.search(r'src="(static/js/bokeh[^"]*)"', page.body.decode())
    assert script
    assert "function" in jupyter.raw("GET", f"{path.rpartition('/')[0]}/{script[1]}").body.decode()


def test_nothing_of_jupyters_is_sent_on(jupyter: Jupyter, trap: Trap) -> None:
    """Neither login, nor tokens, nor where somebody comes from reaches the dashboard."""
    path = jupyter.open(trap.name)
    asked = f"{path}?token={TOKEN}&theme=dark&%74oken=x&_xsrf=2&TOKEN=y"
    assert jupyter.raw("GET", asked, headers=BROWSERS).body == b"hi"
    head = trap.server.head_of("/status?theme=dark")
    names = {line.partition(":")[0].lower() for line in head.splitlines()[1:] if line}
    assert names <= {"accept", "accept-encoding", "connection", "host", "user-agent"}
    for secret in (TOKEN, "secret", "2|abc", "192.0.2.1", "A browser", "daskenv/dashboard"):
        assert secret not in head
    assert f"Host: 127.0.0.1:{trap.server.port}" in head


def test_an_answer_loses_all_but_its_plain_headers(jupyter: Jupyter, trap: Trap) -> None:
    """No cookie, CORS, policy, refresh or login prompt of a dashboard reaches the browser."""
    for page in ("status", "refused"):
        path = jupyter.open(trap.name).replace("status", page)
        answer = jupyter.raw("GET", path, headers=BROWSERS)
        kept = {name.lower() for name in answer.headers}
        assert kept <= {
            *("content-type", "content-security-policy", "x-content-type-options", "vary"),
            *("referrer-policy", "server", "date", "transfer-encoding", "content-length"),
        }
        assert answer.headers.get_all("Content-Security-Policy") == [
            "sandbox allow-scripts; frame-ancestors 'self'"
        ]
    assert answer.status == 401


@pytest.mark.parametrize("page", ["", "-host", "-back", "-script", "-at", "-port", "-up"])
def test_no_redirect_leads_elsewhere(jupyter: Jupyter, trap: Trap, page: str) -> None:
    """Another host, port, scheme or folder is refused in a sentence."""
    path = jupyter.open(trap.name).replace("status", f"away{page}")
    answer = jupyter.raw("GET", path)
    assert answer.status == 502
    assert "Location" not in answer.headers
    assert b"wants to lead elsewhere" in answer.body or b"is none of the dashboard" in answer.body
    assert answer.headers["Content-Security-Policy"].startswith("sandbox allow-scripts;")


def test_a_redirect_within_the_dashboard_keeps_the_ticket(jupyter: Jupyter, trap: Trap) -> None:
    """Dask's own redirects work."""
    path = jupyter.open(trap.name)
    answer = jupyter.raw("GET", path.replace("status", "inside"))
    assert answer.status == 302
    assert answer.headers["Location"] == f"{path}?a=1"


@pytest.mark.parametrize(
    "path",
    [
        *("..", "../status", "a/../../b", "%2e%2e/status", "%2E%2E", ".%2e/x", "a/%2e%2e%2fb"),
        *("/elsewhere.test/", "//elsewhere.test", "%252e%252e/x", "..%2f..", "..%5c..", "a\\b"),
        *("a%0d%0aX-Evil:1", "a%00b", "a%", "a%zz", "..;/x", "%2e%2e;a/x", "status?a=%0d%0a%"),
    ],
)
def test_no_path_leaves_the_dashboard(jupyter: Jupyter, trap: Trap, path: str) -> None:
    """What would climb, or smuggle, is refused before anybody is asked."""
    before = len(trap.server.heard)
    asked = f"{jupyter.open(trap.name).rpartition('/')[0]}/{path}"
    assert jupyter.raw("GET", asked).status in (400, 404, 502)
    assert len(trap.server.heard) == before


@pytest.mark.parametrize("path", ["@elsewhere.test/", "info/worker/tcp%3A%2F%2F10.0.0.1%3A1.html"])
def test_odd_paths_of_a_dashboard_reach_it_as_they_are(
    jupyter: Jupyter, trap: Trap, path: str
) -> None:
    """Dask's pages about workers have encoded slashes; a host in a path is no host."""
    asked = f"{jupyter.open(trap.name).rpartition('/')[0]}/{path}"
    assert jupyter.raw("GET", asked).body == b"hi"
    assert trap.server.head_of(f"/{path}")


@pytest.mark.parametrize("page", ["huge", "garbage", "odd-status", "silent"])
def test_an_answer_that_is_none_ends_in_a_sentence(jupyter: Jupyter, trap: Trap, page: str) -> None:
    """What is too large, no HTTP, or never comes is told."""
    answer = jupyter.raw("GET", jupyter.open(trap.name).replace("status", page))
    assert answer.status == 502
    assert b"does not answer as it should" in answer.body


@pytest.mark.parametrize("page", ["chunks", "endless", "short"])
def test_an_answer_that_does_not_end_is_broken_off(jupyter: Jupyter, trap: Trap, page: str) -> None:
    """The browser learns that it is not whole, and the server lives on."""
    import http.client

    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        jupyter.raw("GET", jupyter.open(trap.name).replace("status", page))
    assert jupyter.raw("GET", jupyter.open(trap.name)).body == b"hi"


def test_a_broken_header_is_no_harm(jupyter: Jupyter, trap: Trap) -> None:
    """Signs that no header has are refused, or passed on as one header."""
    answer = jupyter.raw("GET", jupyter.open(trap.name).replace("status", "odd-header"))
    assert answer.status in (200, 502)
    assert answer.headers["Content-Security-Policy"].startswith("sandbox allow-scripts;")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_pages_are_only_read(jupyter: Jupyter, trap: Trap, method: str) -> None:
    """Nothing can be sent to a dashboard."""
    before = len(trap.server.heard)
    answer = jupyter.raw(method, jupyter.open(trap.name), headers={"Origin": "null"})
    assert answer.status == 405
    assert len(trap.server.heard) == before


def test_a_ticket_of_another_server_or_hand_is_refused(
    jupyter: Jupyter, hasty_jupyter: Jupyter, trap: Trap, gateway_cluster: str
) -> None:
    """Forged, foreign, mixed and missing tickets see nothing, and no dashboard is asked."""
    word, other = (jupyter.open(n).split("/")[-2] for n in (trap.name, gateway_cluster))
    foreign = hasty_jupyter.open(trap.name).split("/")[-2]
    said, signature = word.split(".")
    before = len(trap.server.heard)
    for ticket in (
        foreign,
        said,
        f"{said}.",
        f".{signature}",
        f"{said}.{other.split('.')[1]}",
        f"{word}x",
        f"{said[:-1]}.{signature}",
        "..",
        "%00",
        "x" * 5000,
    ):
        answer = jupyter.raw("GET", f"{BASE}daskenv/dashboard/{ticket}/status")
        assert answer.status == 403, ticket
        assert b"open the dashboard again" in answer.body
    assert len(trap.server.heard) == before


def test_a_ticket_runs_out(hasty_jupyter: Jupyter, trap: Trap) -> None:
    """A page cannot be opened after its time."""
    answer = hasty_jupyter.raw("GET", hasty_jupyter.open(trap.name))
    assert answer.status == 403
    assert b"has run out" in answer.body


def test_a_ticket_is_no_login_and_in_no_log(jupyter: Jupyter, trap: Trap) -> None:
    """It opens nothing else, and the log does not hold it, also where it fails."""
    path = jupyter.open(trap.name)
    word = path.split("/")[-2]
    assert jupyter.raw("GET", path.replace("status", "refused")).status == 401
    assert jupyter.raw("GET", path.replace("status", "..")).status == 502
    assert jupyter.raw("GET", f"{BASE}api/contents?token={word}").status == 403
    assert word not in jupyter.log.read_text()


def test_a_server_that_was_started_again_refuses_old_tickets(
    state_dir: Path, trap: Trap, tmp_path: Path
) -> None:
    """The key goes with the process."""
    with serving(tmp_path / "a") as first:
        path = first.open(trap.name)
        assert first.raw("GET", path).status == 200
    with serving(tmp_path / "b") as second:
        assert second.raw("GET", path).status == 403
