"""Looks at the environment's arguments, the region, the credentials and the account's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import botocore.session

from daskenv_lab.errors import did_you_mean
from daskenv_lab.providers.fargate import settings as asked
from daskenv_lab.providers.fargate.account import account
from daskenv_lab.providers.fargate.aws import NotPermitted
from daskenv_lab.providers.fargate.checks import Caller, Check, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daskenv_lab.providers.fargate.checks import Case

_LONG_ARNS = "taskLongArnFormat"


def _arguments(case: Case) -> Iterator[Finding]:
    case.settings = settings = asked.resolve(asked.check(case.environment))
    sizes = [
        f"{role} {cpu} CPU units with {memory} MiB{'' if fargate else ' on machines of yours'}"
        for role, cpu, memory, fargate in (
            (
                "scheduler",
                settings.scheduler_cpu,
                settings.scheduler_mem,
                settings.fargate_scheduler,
            ),
            ("worker", settings.worker_cpu, settings.worker_mem, settings.fargate_workers),
        )
    ]
    yield Finding(what="arguments and sizes", result="good", told=", ".join(sizes))


def _region(case: Case) -> Iterator[Finding]:
    case.aws = account(case.environment, start=None if case.ref else case.progress)
    name = case.aws.region
    session = botocore.session.Session()
    known = {
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ecs", partition_name=partition)
    }
    if name in known:
        yield Finding(what="region", result="good", told=name)
        return
    yield Finding(
        what="region",
        result="warning",
        told=f"{name} is no region that this botocore knows; {did_you_mean(name, known)}",
        step="mend region_name or AWS_REGION, or upgrade botocore if the region is new",
    )


def _credentials(case: Case) -> Iterator[Finding]:
    try:
        told = case.account.call("sts", "get_caller_identity")
    except NotPermitted as refused:
        # AWS says so of a session whose policy denies everything; the rest may still tell more.
        case.caller = Caller(arn="", account="")
        yield Finding(
            what="credentials",
            result="warning",
            told=f"AWS knows them, and does not say whose they are ({refused.reason})",
            step="ask an administrator for sts:GetCallerIdentity",
        )
        return
    case.caller = Caller(arn=str(told["Arn"]), account=str(told["Account"]))
    yield Finding(
        what="credentials",
        result="good",
        told=f"{case.caller.arn} of the account {case.caller.account}",
    )


def _long_arns(case: Case) -> Iterator[Finding]:
    told = case.account.call(
        "ecs", "list_account_settings", name=_LONG_ARNS, effectiveSettings=True
    )
    value = next((s["value"] for s in told["settings"] if s["name"] == _LONG_ARNS), "enabled")
    if value in ("enabled", "on"):
        yield Finding(what="tags on tasks", result="good", told=f"{_LONG_ARNS} is {value}")
        return
    yield Finding(
        what="tags on tasks",
        result="bad",
        told=f"{_LONG_ARNS} is {value}, and tasks with short ARNs take no tags",
        step=f"run `aws ecs put-account-setting --name {_LONG_ARNS} --value enabled`",
    )


ARGUMENTS = Check("arguments and sizes", _arguments)
REGION = Check("region", _region)
CREDENTIALS = Check("credentials", _credentials, ["aws"])
LONG_ARNS = Check("tags on tasks", _long_arns, ["caller"])
