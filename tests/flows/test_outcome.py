"""Outcomes: what is taken apart comes together again, and the result is held as it is."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending

from daskenv_lab.flows.outcome import outcome_of, state_of
from daskenv_lab.flows.shipping import pack_failure, pack_state
from daskenv_lab.flows.squeezed import SAMPLE, Alike, Squeezed, unsqueezed


class Large:
    """A result of which there is to be one."""


def recorded(result: Any) -> ResultRecord[Any]:
    """Make a result's record, as Prefect's engine does."""
    record: ResultRecord[Any] = ResultRecord(
        metadata=ResultRecordMetadata(storage_key=uuid4().hex), result=result
    )
    record.mark_persisted()
    return record


@pytest.mark.parametrize(
    "state",
    [
        Completed(data=recorded([1, 2]), message="done"),
        Completed(data=5),
        Completed(name="Cached", data=recorded(None)),
        Failed(data=ValueError("no")),
        Crashed(message="its worker died"),
        Cancelled(message="by hand"),
        Pending(name="NotReady"),
    ],
    ids=lambda state: state.name,
)
def test_a_state_comes_back(state: State[Any]) -> None:
    """With its id, its time, its details and its data."""
    state.state_details.task_run_id = uuid4()
    back = state_of(outcome_of(state))
    assert back == state
    assert (back.id, back.timestamp, back.data) == (state.id, state.timestamp, state.data)
    if isinstance(state.data, ResultRecord):
        assert back.data.is_persisted


def test_the_result_is_not_copied() -> None:
    """The state that comes back holds the very object."""
    large = Large()
    held, written, data = outcome_of(Completed(data=recorded(large)))
    assert held
    assert data is large
    assert b"Large" not in written
    assert state_of((held, written, data)).data.result is large


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_a_failure_travels_with_its_time(error: BaseException) -> None:
    """Also where the exception stays behind."""
    state: State[Any] = Failed(data=error)
    back = state_of(pickle.loads(pack_failure(state, error)))
    assert (back.id, back.timestamp) == (state.id, state.timestamp)
    assert state_of(pickle.loads(pack_state(state))).timestamp == state.timestamp


def test_squeezed_bytes_come_back() -> None:
    """What is like the sample takes next to nothing, and all of it comes back."""
    sample = pickle.dumps(Completed(message="done"))
    for plain in (sample, pickle.dumps(Completed(message="done too")), b"", b"\0" * 100_000):
        assert Squeezed(plain, sample).plain() == plain
    assert len(Squeezed(sample, sample).small) < len(sample) / 10


def test_the_first_of_many_alike_is_their_sample() -> None:
    """It does not change, however many threads begin; of a large one, the beginning serves."""
    alike = Alike()
    first = bytes(range(256)) * 1000
    squeezed = [alike.squeeze(first), alike.squeeze(b"another"), alike.squeeze(b"")]
    assert len(alike.sample) == SAMPLE
    assert first.startswith(alike.sample)
    assert [one.plain() for one in squeezed] == [first, b"another", b""]
    assert unsqueezed(squeezed[1].small, alike.sample) == b"another"
    beginners = Alike()
    with ThreadPoolExecutor(8) as threads:
        many = list(threads.map(beginners.squeeze, [b"%d" % i * 100 for i in range(200)]))
    assert [one.plain() for one in many] == [b"%d" % i * 100 for i in range(200)]
    assert {one.small and unsqueezed(one.small, beginners.sample) for one in many} == {
        b"%d" % i * 100 for i in range(200)
    }
