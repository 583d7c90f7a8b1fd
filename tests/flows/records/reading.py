"""All that the API recorded of flow runs, in words that are the same for each such run.

Ids become the names of what they belong to, times and durations become words, and the order is
that of the names; everything else stays as the API tells it, whatever fields it has.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:\d\d)?")
HASH = re.compile(r"\b([0-9a-f]{64}|[0-9a-f]{32})\b")
SUFFIX = re.compile(r"-[0-9a-f]{3}(?![0-9a-f])")
"""What Prefect puts behind the name of a task that its run has no name for."""

FUTURE = re.compile(r"<\w+Future>")
"""How Prefect writes down a future that is a flow's parameter."""

DURATIONS = re.compile(r"_run_time$|_time_delta$")
LIMIT = 90.0
"""Seconds for the server to have recorded everything."""

QUIET = 6.0
"""Seconds without news after which nothing more is to come: the server writes events every five."""

Json = Any


class Records:
    """Reads what an API recorded."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client

    def await_recorded(self, flow_run_ids: list[str], n: int) -> None:
        """Wait until `n` task runs have ended, and their events and logs come no more."""
        deadline = time.monotonic() + LIMIT
        seen: tuple[int, ...] = ()
        while time.monotonic() < deadline:
            flow_runs, task_runs = self._runs(flow_run_ids)
            over = sum(ended(run) for run in task_runs)
            complete = over == len(task_runs) >= n
            before, seen = seen, (over, self._count(flow_runs), len(self._logs(flow_runs)))
            if complete and seen == before:
                return
            # Nothing tells which events and logs are the last.
            time.sleep(QUIET if complete else 1)
        raise AssertionError(f"after {LIMIT:.0f} s the API has {seen[0]} of {n} task runs")

    def of(self, flow_run_id: str, salt: str, value: Any) -> dict[str, Any]:
        """Give what was recorded of a flow run, of those in it, and of their task runs.

        Ids and times in the flow's value, and the word that was this flow run's own, become words
        as well.
        """
        flow_runs, task_runs = self._runs([flow_run_id])
        ids = [run["id"] for run in flow_runs]
        for run in flow_runs:
            run["history"] = self._get(f"/flow_run_states/?flow_run_id={run['id']}")
        for run in task_runs:
            run["history"] = self._get(f"/task_run_states/?task_run_id={run['id']}")
        artifacts = self._all("artifacts", flow_run_id={"any_": ids})
        words = Words(flow_runs, task_runs, artifacts, salt)
        found = {
            "flow runs": flow_runs,
            "task runs": task_runs,
            "artifacts": artifacts,
            "events": self._events(flow_runs),
            "stored results": self._stored(task_runs),
        }
        plain = {kind: sorted(map(words.plain, told), key=in_order) for kind, told in found.items()}
        logs = words.by_run(self._logs(flow_runs))
        return {**plain, "logs": logs, "value": words.plain([repr(value)])}

    def _runs(self, flow_run_ids: list[str]) -> tuple[list[Json], list[Json]]:
        """Find flow runs and those in them, and the task runs of all."""
        flow_runs: list[Json] = []
        task_runs: list[Json] = []
        wanted: Json = {"id": {"any_": flow_run_ids}}
        while found := self._all("flow_runs", **wanted):
            flow_runs += found
            tasks = self._all("task_runs", flow_run_id={"any_": [run["id"] for run in found]})
            task_runs += tasks
            wanted = {"parent_task_run_id": {"any_": [run["id"] for run in tasks]}}
        return flow_runs, task_runs

    def _logs(self, flow_runs: list[Json]) -> list[Json]:
        ids = {"any_": [run["id"] for run in flow_runs]}
        # The task runners' own words are not the flow's.
        found = self._all("logs", flow_run_id=ids)
        return [log for log in found if not log["name"].startswith("prefect.task_runner")]

    def _events(self, flow_runs: list[Json]) -> list[Json]:
        page = self._post("/events/filter", {"filter": about(flow_runs), "limit": 50})
        events: list[Json] = page["events"]
        while page["next_page"]:
            page = self._get(page["next_page"].partition("/api")[2])
            events += page["events"]
        return events

    def _count(self, flow_runs: list[Json]) -> int:
        counted = self._post("/events/count-by/event", {"filter": about(flow_runs)})
        return sum(event["count"] for event in counted)

    def _stored(self, task_runs: list[Json]) -> list[Json]:
        """Read the results that the API has a place of, from where it says."""
        found = []
        for run in task_runs:
            if run["state"]["data"]:
                state = self._client.read_task_run(run["id"]).state
                assert state is not None
                value: Any = state.result(raise_on_failure=False, _sync=True)  # type: ignore[call-overload]
                found.append({"id": run["id"], "result": repr(value)})
        return found

    def _all(self, kind: str, **chosen: Json) -> list[Json]:
        found: list[Json] = []
        sort = {"sort": "TIMESTAMP_ASC"} if kind == "logs" else {}
        limit = {**sort, kind: chosen, "limit": 200}
        while page := self._post(f"/{kind}/filter", {**limit, "offset": len(found)}):
            found += page
            if len(page) < 200:
                break
        return found

    def _post(self, path: str, body: Json) -> Json:
        return self._client._client.post(path, json=body).raise_for_status().json()

    def _get(self, path: str) -> Json:
        return self._client._client.get(path).raise_for_status().json()


class Words:
    """Puts names in the place of ids, and words in the place of times."""

    def __init__(
        self,
        flow_runs: Iterable[Json],
        task_runs: Iterable[Json],
        artifacts: Iterable[Json],
        salt: str,
    ) -> None:
        self._salt = salt
        self._names: dict[str, str] = {}
        for run in (*flow_runs, *task_runs):
            # Of a flow run within a task the task run's name ends with an id.
            name = self._names[run["id"]] = SUFFIX.sub("-…", UUID.sub("…", run["name"]))
            run["history"].sort(key=lambda state: state["timestamp"])
            for place, state in enumerate(run["history"]):
                self._names[state["id"]] = f"state {place} of {name}"
        self._names |= {a["id"]: f"artifact {a['key']}" for a in artifacts}

    def plain(self, thing: Json) -> Json:
        """Give the same thing in such words."""
        if isinstance(thing, dict):
            words = {
                self._text(key): "a duration" if DURATIONS.search(key) else self.plain(value)
                for key, value in thing.items()
            }
            if str(thing.get("prefect.resource.id")).startswith("prefect.flow-run."):
                # A flow run that gets a name has one made up by the API at first.
                words["prefect.resource.name"] = words["prefect.resource.id"]
            return words
        if isinstance(thing, list):
            # States are in order; tags, inputs and related resources are sets.
            parts = [self.plain(part) for part in thing]
            ordered = bool(thing) and isinstance(thing[0], dict) and "timestamp" in thing[0]
            return parts if ordered else sorted(parts, key=in_order)
        return self._text(thing) if isinstance(thing, str) else thing

    def by_run(self, logs: Iterable[Json]) -> dict[str, list[Json]]:
        """Give what was logged in each run, in order."""
        runs: dict[str, list[Json]] = {}
        for log in logs:
            run = self._text(log["task_run_id"] or log["flow_run_id"])
            # Tracebacks lead through the code of the one runner or the other.
            message = self._text(log["message"]).partition("\nTraceback")[0]
            runs.setdefault(run, []).append((log["name"], log["level"], message))
        # Runs that share a name, as mapped ones may, write their lines in any order.
        return {run: sorted(lines) if "…" in run else lines for run, lines in runs.items()}

    def _text(self, text: str) -> str:
        text = UUID.sub(lambda found: self._names.get(found[0], "an id"), text)
        text = HASH.sub("a hash", TIME.sub("a time", text.replace(self._salt, "salt")))
        return FUTURE.sub("<Future>", SUFFIX.sub("-…", text))


def in_order(thing: Json) -> str:
    """Write a thing down so that the order of what it holds by name does not matter."""
    return json.dumps(thing, sort_keys=True)


def ended(task_run: Json) -> bool:
    """Tell whether nothing more happens to a task run."""
    state = task_run["state"]
    final = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
    return state["name"] == "NotReady" or state["type"] in final


def about(flow_runs: list[Json]) -> Json:
    """Choose the events of flow runs, and of all that happened in them."""
    ids = [f"prefect.flow-run.{run['id']}" for run in flow_runs]
    return {"any_resource": {"id": ids}, "order": "ASC"}


@contextmanager
def records() -> Iterator[Records]:
    """Give a reader of what the current API recorded."""
    with get_client(sync_client=True) as client:
        yield Records(client)
