"""The private way in, beside the AWS API: health, faults, counts, and who may reach whom."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

from daskenv_lab.errors import DaskEnvLabError
from daskenv_lab.rehearsal.fault import Fault
from daskenv_lab.rehearsal.place import Latency
from daskenv_lab.rehearsal.refusal import Answer
from daskenv_lab.rehearsal.task import SPOT
from daskenv_lab.rehearsal.wire import PATH, SECRET_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskenv_lab.rehearsal.cloud import Cloud

_HEADER = f"HTTP_{SECRET_HEADER.upper().replace('-', '_')}"


class Desk:
    """Answers to orders and questions of this user's own processes."""

    def __init__(self, cloud: Cloud, secret: str) -> None:
        self._cloud = cloud
        self._secret = secret
        self._answers: dict[tuple[str, str], Callable[[dict[str, Any]], Any]] = {
            ("GET", "faults"): self._faults,
            ("POST", "faults"): self._order,
            ("DELETE", "faults"): self._clear,
            ("GET", "held"): self._held,
            ("GET", "calls"): self._calls,
            ("DELETE", "calls"): self._forget,
            ("POST", "reach"): self._reach,
            ("POST", "latency"): self._latency,
        }

    def answer(self, environ: dict[str, Any]) -> Answer:
        """Answer one request."""
        what = environ["PATH_INFO"][len(PATH) :]
        if what == "health":
            return _told({"healthy": True})
        if not hmac.compare_digest(environ.get(_HEADER, "").encode(), self._secret.encode()):
            return _told("the secret of the rehearsal's record is needed", 403)
        handler = self._answers.get((environ["REQUEST_METHOD"], what))
        if handler is None:
            return _told(f"the rehearsal has no {environ['REQUEST_METHOD']} {what}", 404)
        try:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _told(handler(json.loads(body or b"{}")))
        except LookupError as error:
            return _told(str(error.args[0]), 404)
        except (ValueError, TypeError, DaskEnvLabError) as error:
            return _told(str(error), 400)

    def _faults(self, _: dict[str, Any]) -> Any:
        return {"faults": [fault.to_dict() for fault in self._cloud.orders.listed()]}

    def _order(self, told: dict[str, Any]) -> Any:
        fault = Fault.from_dict(told)
        if fault.kind != "spot":
            self._cloud.orders.add(fault)
            return {"tasks": []}
        with self._cloud.lock:
            hit = self._cloud.matching(fault.task)[: fault.times]
            for task in hit:
                self._cloud.halt(task, SPOT, "Your Spot Task was interrupted.")
        return {"tasks": [task.task_arn for task in hit]}

    def _clear(self, _: dict[str, Any]) -> Any:
        self._cloud.orders.clear()
        return {}

    def _held(self, _: dict[str, Any]) -> Any:
        with self._cloud.lock:
            return {"calls": list(self._cloud.held)}

    def _calls(self, _: dict[str, Any]) -> Any:
        with self._cloud.lock:
            return {"calls": dict(sorted(self._cloud.calls.items()))}

    def _forget(self, _: dict[str, Any]) -> Any:
        with self._cloud.lock:
            self._cloud.calls.clear()
        return {}

    def _reach(self, told: dict[str, Any]) -> Any:
        source, port = str(told["source"]), int(told["port"])
        task = self._cloud.tasks.get(str(told["task"]))
        caller = self._cloud.tasks.get(source) if source.startswith("arn:") else source
        for name, found in ((told["task"], task), (source, caller)):
            if found is None:
                raise LookupError(f"no task {name} is known to the rehearsal; see `daskenv ls`")
        assert task is not None  # noqa: S101 - for the type checker
        assert caller is not None  # noqa: S101 - for the type checker
        reached = self._cloud.reach(caller, task, port)
        return {"allowed": reached.allowed, "rule": reached.rule, "reason": reached.reason}

    def _latency(self, told: dict[str, Any]) -> Any:
        self._cloud.latency = Latency.of(told)
        return self._cloud.latency.to_dict()


def _told(what: Any, status: int = 200) -> Answer:
    if isinstance(what, str):
        return Answer(status, [("Content-Type", "text/plain; charset=utf-8")], what.encode())
    return Answer(status, [("Content-Type", "application/json")], json.dumps(what).encode())
