"""A real Jupyter Server in a process of its own, asked as a browser or a script would."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import daskenv_lab.server
from daskenv_lab.config import process_variables
from tests.waiting import until

TOKEN = "correct-horse-battery"
BASE = "/user/ada/"
ENABLING = Path(daskenv_lab.server.__file__).with_name("daskenv_lab.json")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server answered, whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """An error's sentence."""
        return str(self.json["message"])


@dataclass(frozen=True, kw_only=True)
class Jupyter:
    """A server that runs."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def raw(
        self, method: str, path: str, *, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request as it stands, with no login."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, body=sent, headers=headers or {})
            answer = connection.getresponse()
            return Answer(status=answer.status, headers=answer.headers, body=answer.read())

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask the extension's REST, as a script with the token."""
        headers = {"Authorization": f"token {TOKEN}"}
        return self.raw(method, f"{BASE}daskenv/api/{path}", body=body, headers=headers)

    def open(self, name: str, pane: str = "status") -> str:
        """Give the path of a cluster's dashboard, with a new ticket."""
        answer = self.ask("POST", f"clusters/{name}/dashboard", {"pane": pane})
        assert answer.status == 200, answer.body
        return str(answer.json["path"])

    def login(self) -> dict[str, str]:
        """Log in as a browser does; gives the cookies."""
        cookies: dict[str, str] = {}
        for path in ("login", f"login?token={TOKEN}"):
            answer = self.raw("GET", f"{BASE}{path}")
            for line in answer.headers.get_all("Set-Cookie", []):
                cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return cookies

    def last_activity(self) -> str:
        """Tell when the server was last used, as a culler asks."""
        headers = {"Authorization": f"token {TOKEN}"}
        answer = self.raw("GET", f"{BASE}api/status?no_track_activity=1", headers=headers)
        return str(answer.json["last_activity"])


def cookie_header(cookies: dict[str, str]) -> str:
    """Write cookies down as a browser does."""
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def free_port() -> int:
    """Give a port that nobody listens at."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def serving(
    folder: Path, *arguments: str, app: str = "server", **variables: str
) -> Iterator[Jupyter]:
    """Run a Jupyter Server that finds the extension as an installed one, and end it after."""
    enabled = folder / "config" / "jupyter_server_config.d"
    enabled.mkdir(parents=True, exist_ok=True)
    shutil.copy(ENABLING, enabled)
    port, log = free_port(), folder / "jupyter.log"
    command = [
        *(sys.executable, "-m", "jupyter", app, "--no-browser", "--allow-root"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.base_url={BASE}"),
        *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"),
        *arguments,
    ]
    own = {
        "JUPYTER_CONFIG_PATH": str(folder / "config"),
        "JUPYTER_CONFIG_DIR": str(folder / "own"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
    }
    with log.open("wb") as written:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=process_variables(**own, **variables),
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: _listens(process, port, log))
        yield Jupyter(port=port, process=process, log=log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)


def _listens(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with contextlib.closing(socket.socket()) as trying:
        trying.settimeout(1)
        return trying.connect_ex(("127.0.0.1", port)) == 0
