"""The shared set of AWS resources, made by many at once and by makers that are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from daskenv_lab.providers.fargate import shared
from daskenv_lab.providers.fargate.aws import Aws


def ensure(aws: Aws, given: dict | None = None, **more: object) -> shared.Shared:
    """Make the set without a word."""
    return shared.ensure(aws, given or {}, progress=lambda _: None, **more)  # type: ignore[arg-type]


def states(aws: Aws, given: dict | None = None) -> list[str]:
    """Give the state of each part."""
    return [r.state for r in shared.plan(aws, given or {})]


def test_ten_may_make_it_at_once(empty_aws: Aws) -> None:
    """Ten threads get the same set, and there is one of each part."""
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: ensure(empty_aws), range(10)))
    assert len({json.dumps(m.to_dict()) for m in made}) == 1
    assert_single(empty_aws)


@pytest.mark.slow
def test_processes_may_make_it_at_once(empty_aws: Aws) -> None:
    """Four processes, as of four people, get the same set."""
    with ExitStack() as stack:
        makers = [stack.enter_context(Maker(empty_aws)) for _ in range(4)]
        for maker in makers:
            maker.begin(0)
        ended = [maker.end() for maker in makers]
    assert [code for code, _ in ended] == [0] * 4
    assert len({made for _, made in ended}) == 1
    assert json.loads(ended[0][1]) == json.loads(json.dumps(ensure(empty_aws).to_dict()))
    assert_single(empty_aws)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [pytest.param(4), pytest.param(1, marks=pytest.mark.sweep)])
def test_a_set_whose_maker_was_killed_is_mended(empty_aws: Aws, when: str, step: int) -> None:
    """Wherever kill -9 strikes, it is not found, or it is whole; making it again mends it."""
    code = k = 0
    with Maker(empty_aws) as maker:
        for k in range(1, 60, step):
            maker.begin(k, when)
            code, _ = maker.end()
            assert code in (-9, 0), k
            found = shared.find(empty_aws, {})
            if found:
                assert execution_policy_is_there(empty_aws), k
            made = ensure(empty_aws)
            assert states(empty_aws) == ["exists"] * 5, k
            # What was found before was as whole as what is there now.
            assert found in (None, made), k
            shared.remove(empty_aws, progress=lambda _: None)
            assert states(empty_aws) == ["missing"] * 5, k
            if code == 0:
                break
    assert code == 0
    assert k > 15, "too few calls were counted for a sweep"


class Maker:
    """Another process that makes the set, and may be killed on the way; see `make_shared`."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("make_shared.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        key = self._aws.credentials
        assert key is not None
        self._say(json.dumps([self._aws.endpoint, self._aws.region, key.key_id, key.secret]))
        return self

    def __exit__(self, *_: object) -> None:
        self._child.communicate(timeout=120)

    def begin(self, fatal: int, when: str = "before") -> None:
        """Begin to make it, and die at that call; 0: live."""
        self._say(f"{fatal} {when}")

    def end(self) -> tuple[int, str]:
        """Wait for it; gives the exit code and what was made."""
        assert self._child.stdout is not None
        code, made = json.loads(self._child.stdout.readline())
        return code, made

    def _say(self, line: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(f"{line}\n")
        self._child.stdin.flush()


def assert_single(aws: Aws) -> None:
    """Check that there is one of each part whose name AWS does not keep single."""
    assert states(aws) == ["exists"] * 5
    groups = aws.call(
        "ec2", "describe_security_groups", Filters=[{"Name": "group-name", "Values": ["daskenv"]}]
    )["SecurityGroups"]
    assert len(groups) == 1
    assert len(groups[0]["IpPermissions"]) == 1


def execution_policy_is_there(aws: Aws) -> bool:
    """Tell whether the execution role has its policy."""
    names = aws.pages("iam", "list_role_policies", "PolicyNames", RoleName="daskenv-execution")
    return list(names) == ["daskenv"]
