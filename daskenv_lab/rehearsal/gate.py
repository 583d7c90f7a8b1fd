"""The way in: every call is counted, checked, delayed or spoiled here, and then answered."""

from __future__ import annotations

import io
import json
import logging
import re
import select
import socket
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from daskenv_lab.rehearsal.desk import Desk
from daskenv_lab.rehearsal.operations import Operations
from daskenv_lab.rehearsal.place import ACCOUNT, USER
from daskenv_lab.rehearsal.refusal import (
    Answer,
    Refused,
    broken,
    denied,
    json_answer,
    refusal,
    throttled,
    unknown_key,
    wrong_signature,
)
from daskenv_lab.rehearsal.signature import signed_with
from daskenv_lab.rehearsal.wire import PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from daskenv_lab.rehearsal.cloud import Cloud
    from daskenv_lab.rehearsal.fault import Fault

log = logging.getLogger(__name__)

_CREDENTIAL = re.compile(r"Credential=(?P<key>[^/]+)/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/")
_SMITHY = re.compile(r"/service/[^/]+/operation/(?P<operation>\w+)")
_GLOBAL = {"iam", "sts"}
_READY = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the AWS API."""

    service: str
    operation: str
    region: str
    key: str
    signed: bool
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        """What it is counted as."""
        return f"{self.service}:{self.operation}"


class Gate:
    """The server's WSGI application.

    Parameters
    ----------
    cloud : Cloud
        The account.
    key_id, secret : str
        Its one access key; the secret also guards the private way in.
    """

    def __init__(self, cloud: Cloud, key_id: str, secret: str) -> None:
        self._cloud = cloud
        self._key = key_id
        self._secret = secret
        self._operations = Operations(cloud)
        self._desk = Desk(cloud, secret)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.ready = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        if environ.get("PATH_INFO", "").startswith(PATH):
            answer = self._desk.answer(environ)
        else:
            answer = self._answer(environ)
        reason = "OK" if answer.status < 400 else "Error"
        headers = [h for h in answer.headers if h[0].lower() != "content-length"]
        start_response(
            f"{answer.status} {reason}", [*headers, ("Content-Length", str(len(answer.body)))]
        )
        return [answer.body]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        call = _read(environ, self._secret)
        cloud = self._cloud
        cloud.used = time.monotonic()
        with cloud.lock:
            cloud.calls[call.name] += 1
        faults = cloud.orders.on_call(call.name)
        if any(fault.kind == "down" for fault in faults):
            _drop(environ)
        try:
            self._check(call, faults)
            _wait(cloud.latency.api + _seconds(faults, "slow"))
            self._hold(call, environ, _seconds(faults, "hold-before"))
            answer = self._carried_out(call, environ)
        except Refused as refused:
            return refusal(call.service, refused)
        except ConnectionAbortedError:
            raise
        except Exception:
            # Whatever moto raises at a request that it was not made for; a client gets a 500.
            log.exception("%s failed", call.name)
            return refusal(call.service, broken(call.service))
        self._hold(call, environ, _seconds(faults, "hold-after"))
        return answer

    def _hold(self, call: Call, environ: dict[str, Any], seconds: float) -> None:
        """Keep a call waiting for so long, or until its caller hangs up, and with it the call."""
        if seconds <= 0:
            return
        with self._cloud.holding(call.name):
            if _hangs_up(environ.get("werkzeug.socket"), seconds):
                raise ConnectionAbortedError("its caller has hung up")

    def _check(self, call: Call, faults: list[Fault]) -> None:
        if call.key != self._key:
            raise unknown_key(call.service)
        if not call.signed:
            raise wrong_signature(call.service)
        if call.service not in _GLOBAL and call.region != self._cloud.region:
            code = "AuthFailure" if call.service == "ec2" else "InvalidSignatureException"
            raise Refused(
                code,
                f"Credential should be scoped to a valid region, not '{call.region}'; this "
                f"rehearsal is {self._cloud.region}.",
                status=403,
            )
        makers: dict[str, Callable[[], Refused]] = {
            "throttle": lambda: throttled(call.service),
            "server-error": lambda: broken(call.service),
            "denied": lambda: denied(
                call.service, call.operation, f"arn:aws:iam::{ACCOUNT}:user/{USER}"
            ),
        }
        for fault in faults:
            if fault.kind in makers:
                raise makers[fault.kind]()

    def _carried_out(self, call: Call, environ: dict[str, Any]) -> Answer:
        if not self.ready.wait(_READY):
            raise broken(call.service)
        if call.service == "ec2" and call.parameters.get("DryRun") == "true":
            raise Refused(
                "DryRunOperation",
                "Request would have succeeded, but DryRun flag is set.",
                status=412,
            )
        with self._cloud.lock:
            if call.service == "ecs":
                if own := self._operations.answered.get(call.operation):
                    return json_answer(own(call.parameters))
                if check := self._operations.checked.get(call.operation):
                    check(call.parameters)
            elif call.name == "ec2:DeleteSecurityGroup":
                self._check_unused(call.parameters)
            return self._by_moto(environ)

    def _check_unused(self, parameters: dict[str, Any]) -> None:
        wanted = {parameters.get("GroupId"), parameters.get("GroupName")} - {None}
        for interface in self._cloud.ec2.enis.values():
            for group in interface.group_set:
                if group.id in wanted or (
                    group.name in wanted and group.vpc_id == self._cloud.ec2.default_vpc.id
                ):
                    raise Refused(
                        "DependencyViolation", f"resource {group.id} has a dependent object"
                    )

    def _by_moto(self, environ: dict[str, Any]) -> Answer:
        told: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            told.update(status=int(status.split()[0]), headers=headers)

        body = b"".join(self._moto(environ, start_response))
        return Answer(told["status"], told["headers"], body)


def _read(environ: dict[str, Any], secret: str) -> Call:
    """Find out what is called, and leave the request as it was."""
    body = b""
    if length := environ.get("CONTENT_LENGTH"):
        body = environ["wsgi.input"].read(int(length))
        environ["wsgi.input"] = io.BytesIO(body)
    signed = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    key, region, service = signed.group("key", "region", "service") if signed else ("", "", "")
    parameters: dict[str, Any] = {}
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        operation = target.rsplit(".", 1)[-1]
        parameters = _json(body)
    elif smithy := _SMITHY.match(environ.get("PATH_INFO", "")):
        operation = smithy["operation"]
    else:
        text = body.decode("utf-8", "replace") or environ.get("QUERY_STRING", "")
        parameters = dict(urllib.parse.parse_qsl(text))
        operation = str(parameters.get("Action") or environ.get("REQUEST_METHOD", ""))
    return Call(
        service=service,
        operation=operation,
        region=region,
        key=key,
        signed=signed_with(secret, environ, body),
        parameters=parameters,
    )


def _json(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _seconds(faults: list[Fault], *kinds: str) -> float:
    return sum(fault.seconds for fault in faults if fault.kind in kinds)


def _wait(seconds: float) -> None:
    if seconds > 0:
        time.sleep(seconds)


def _hangs_up(connection: Any, seconds: float) -> bool:
    """Wait for so long; at once True when the other side closes the connection."""
    if not isinstance(connection, socket.socket):
        time.sleep(seconds)
        return False
    readable, _, _ = select.select([connection], [], [], seconds)
    try:
        # A caller that waits for its answer says nothing more.
        return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
    except ConnectionError:
        return True


def _drop(environ: dict[str, Any]) -> None:
    """Close the connection without a word."""
    connection = environ.get("werkzeug.socket")
    if isinstance(connection, socket.socket):
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("dropped, as ordered")
