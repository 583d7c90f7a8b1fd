"""The local Prefect API's server: what SQLite refuses for a moment is tried again there."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from daskenv_lab.flows.prefect_server import TryAgain

BODY = b"[" + b"x" * 200_000 + b"]"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_writer_is_refused_while_others_write(api: str) -> None:
    """Prefect's own server answers some of these with 503."""
    with httpx.Client(base_url=api, timeout=60, trust_env=False) as client:
        made = client.post("/flows/", json={"name": f"writers-{uuid.uuid4()}"})
        flow_id = made.json()["id"]

        def begin(_: int) -> int:
            state = {"type": "RUNNING", "name": "Running"}
            told = client.post("/flow_runs/", json={"flow_id": flow_id, "state": state})
            return told.status_code

        with ThreadPoolExecutor(8) as writers:
            codes = list(writers.map(begin, range(100)))
    assert set(codes) == {201}


@pytest.mark.parametrize("raising", [False, True])
def test_a_refused_request_is_tried_again_whole(raising: bool) -> None:
    """Its body comes anew each time, and its client sees the last answer alone."""
    bodies = []

    async def answer(request: Request) -> Response:
        bodies.append(await request.body())
        if len(bodies) < 3:
            if raising:
                raise OSError("database is locked")
            return PlainTextResponse("later", 503)
        return PlainTextResponse("taken", 201)

    told = ask(TryAgain(application(answer)))
    assert (told.status_code, told.text) == (201, "taken")
    assert bodies == [BODY] * 3


def test_what_stays_refused_is_told() -> None:
    """After the patience, the client hears what the server says."""
    tried = []

    async def answer(_: Request) -> Response:
        tried.append(1)
        return PlainTextResponse("never", 503, headers={"Retry-After": "7"})

    told = ask(TryAgain(application(answer), patience=0.3))
    assert (told.status_code, told.text, told.headers["Retry-After"]) == (503, "never", "7")
    assert len(tried) > 3


@pytest.mark.parametrize("status", [200, 404, 429, 500])
def test_other_answers_pass_at_once(status: int) -> None:
    """An answer in parts is passed on in these; nothing is tried twice."""
    tried = []

    async def answer(_: Request) -> Response:
        tried.append(1)
        return Response(b"a" * 100_000, status)

    told = ask(TryAgain(application(answer)))
    assert (told.status_code, len(told.content), len(tried)) == (status, 100_000, 1)


def application(answer: Any) -> Starlette:
    """Give an application that refuses with 503 what raises an OSError, as Prefect's does."""

    async def refuse(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 503)

    return Starlette(
        routes=[Route("/", answer, methods=["POST"])], exception_handlers={Exception: refuse}
    )


def ask(app: Any) -> httpx.Response:
    """Send a request to an application."""

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post("/", content=BODY)

    return asyncio.run(post())
