"""A flow run's own image: what is nearest to the run wins."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Scheduled

from daskenv_lab.production.image import image_of
from tests.production.conftest import make_pool

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Give a function that answers each GET with JSON, at an address of its own."""
    with ExitStack() as stack:

        def start(answers: dict[str, Any], tls: ssl.SSLContext | None = None) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    allowed = tls is None or self.headers["Authorization"] == "Bearer key"
                    found = allowed and self.path in answers
                    body = json.dumps(answers.get(self.path)).encode() if found else b"{"
                    self.send_response(200 if allowed else 403)
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_: Any) -> None:
                    pass

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            if tls:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join, 10)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return f"127.0.0.1:{server.server_address[1]}"

        yield start


def _flow_run(**changes: Any) -> FlowRun:
    @flow
    def f() -> None: ...

    with get_client(sync_client=True) as client:
        made: FlowRun = client.create_flow_run(f, state=Scheduled())
        return made.model_copy(update=changes)


def test_what_is_nearest_wins(api: str) -> None:
    """The run's own job variables, then the deployment's, then the pool's default."""
    pool = make_pool("kubernetes")
    with get_client(sync_client=True) as client:
        template = client.read_work_pool(pool).base_job_template
        template["variables"]["properties"]["image"]["default"] = "pool:1"
        client.request("PATCH", f"/work_pools/{pool}", json={"base_job_template": template})  # type: ignore[arg-type]
        flow_id = client.create_flow_from_name("f")
        deployed = client.create_deployment(
            flow_id, "d", work_pool_name=pool, job_variables={"image": "deployment:1"}
        )
        templated = client.create_deployment(
            flow_id, "t", work_pool_name=pool, job_variables={"image": "{{ prefect.variables.i }}"}
        )
    given = {"work_pool_name": pool, "deployment_id": deployed}
    own = image_of(_flow_run(**given, job_variables={"image": "own:1"}))
    assert own == ("own:1", "the flow run's job variables")
    assert image_of(_flow_run(**given)) == ("deployment:1", "the job variables of the deployment d")
    pools = ("pool:1", f"the default of the work pool {pool}")
    assert image_of(_flow_run(**{**given, "deployment_id": templated})) == pools
    assert image_of(_flow_run(work_pool_name=pool)) == pools


def test_no_container(api: str) -> None:
    """A flow run in a process has no image, whatever has been deleted meanwhile."""
    assert image_of(_flow_run()) is None
    assert image_of(_flow_run(work_pool_name="gone", deployment_id=_flow_run().id)) is None


def test_on_ecs(api: str, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task's metadata endpoint tells it; one that tells nonsense tells nothing."""
    host = serve({"/v4/me": {"Image": "ecs:1"}, "/v4/none": []})
    for path, wanted in (("me", "ecs:1"), ("none", None), ("broken", None)):
        monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", f"http://{host}/v4/{path}")
        found = image_of(_flow_run())
        assert (found and found.name) == wanted


def test_on_kubernetes(
    api: str, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API tells of this pod, if its account may ask; its certificate is checked."""
    certificate, key = tmp_path / "ca.crt", tmp_path / "key"
    command = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 1"
    names = ["-subj", "/CN=k", "-addext", "subjectAltName=IP:127.0.0.1"]
    where = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names, *where], check=True, capture_output=True, timeout=120)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    several = {
        "containers": [
            {"name": "sidecar", "image": "s:1"},
            {"name": "prefect-job", "image": "k8s:1"},
        ]
    }
    pods = "/api/v1/namespaces/flows/pods"
    answers = {
        f"{pods}/one": {"spec": {"containers": [{"image": "k8s:1"}]}},
        f"{pods}/two": {"spec": several},
    }
    host, _, port = serve(answers, tls).partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    assert image_of(_flow_run(), service_account=tmp_path) is None  # no credentials
    (tmp_path / "token").write_text("key\n")
    (tmp_path / "namespace").write_text("flows\n")
    for pod in ("one", "two"):
        monkeypatch.setenv("HOSTNAME", pod)
        found = image_of(_flow_run(), service_account=tmp_path)
        assert found == ("k8s:1", f"the pod {pod} on Kubernetes")
    (tmp_path / "token").write_text("stolen")
    assert image_of(_flow_run(), service_account=tmp_path) is None
