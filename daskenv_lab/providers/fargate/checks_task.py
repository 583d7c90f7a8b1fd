"""Looks at what tasks are made of: the image, and the room for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from daskenv_lab.providers.fargate.aws import Aws, AwsRefused, NotPermitted
from daskenv_lab.providers.fargate.checks import Check, Finding
from daskenv_lab.providers.fargate.resource import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daskenv_lab.providers.fargate.checks import Case

_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/"
    r"(?P<name>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>.+))?"
)
"""https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html"""

_QUOTAS = {False: "L-3032A538", True: "L-36FBB829"}
"""Service Quotas' codes for Fargate's concurrent virtual CPUs, on demand and on Spot."""

_UNITS = 1024
_MOST_DESCRIBED = 100


def _image(case: Case) -> Iterator[Finding]:
    image = case.wanted.image
    kept = _ECR.fullmatch(image)
    if kept is None:
        step = "" if case.probe else f"pull it once with {case.command('doctor fargate --probe')}"
        told = f"{image} is in no ECR registry, and cannot be looked at without a pull"
        yield Finding(what="image", result="skipped", told=told, step=step)
        return
    which = {"imageDigest": kept["digest"]} if kept["digest"] else {}
    which = which or {"imageTag": kept["tag"] or "latest"}
    try:
        found = _registry(case.account, kept["region"]).call(
            "ecr",
            "describe_images",
            registryId=kept["account"],
            repositoryName=kept["name"],
            imageIds=[which],
        )["imageDetails"]
    except NotPermitted:
        raise
    except AwsRefused as refused:
        yield Finding(
            what="image",
            result="bad",
            told=f"{image} does not exist ({refused.reason})",
            step="push it, or mend image=…",
        )
        return
    size = sum(int(d.get("imageSizeInBytes", 0)) for d in found)
    yield Finding(what="image", result="good", told=f"{image} exists, {size / 1e6:.0f} MB")


def _registry(aws: Aws, region: str) -> Aws:
    if aws.rehearsal or region == aws.region:
        return aws
    return Aws(region=region, credentials=aws.credentials)


def _quota(case: Case) -> Iterator[Finding]:
    settings = case.wanted
    if not settings.fargate_scheduler and not settings.fargate_workers:
        return
    what = f"quota of Fargate{' Spot' if settings.spot else ''}"
    wanted = settings.scheduler_cpu * settings.fargate_scheduler * (not settings.spot)
    wanted += settings.worker_cpu * settings.fargate_workers * case.n_workers
    try:
        told = case.account.call(
            "service-quotas",
            "get_service_quota",
            ServiceCode="fargate",
            QuotaCode=_QUOTAS[settings.spot],
        )
    except AwsRefused as refused:
        why = f"Service Quotas does not tell ({refused.reason})"
        if case.account.rehearsal:
            why = "not known, as a rehearsal has no quotas"
        yield Finding(what=what, result="skipped", told=why)
        return
    limit, need = float(told["Quota"]["Value"]), wanted / _UNITS
    sentence = f"{limit:g} virtual CPUs at a time in this region, and {need:g} are asked for"
    if need <= limit:
        yield Finding(what=what, result="good", told=sentence)
        return
    step = "ask for fewer or smaller workers, or for a larger quota in Service Quotas"
    yield Finding(what=what, result="bad", told=sentence, step=step)


def _machines(case: Case) -> Iterator[Finding]:
    settings = case.wanted
    if settings.fargate_scheduler and settings.fargate_workers:
        return
    what = "machines of the ECS cluster"
    cluster = str(case.given.get("cluster_arn", NAME))
    arns = list(
        case.account.pages(
            "ecs", "list_container_instances", "containerInstanceArns", cluster=cluster
        )
    )[:_MOST_DESCRIBED]
    there = []
    if arns:
        there = case.account.call(
            "ecs", "describe_container_instances", cluster=cluster, containerInstances=arns
        )["containerInstances"]
    need = (settings.worker_cpu, settings.worker_mem, settings.worker_gpu or 0)
    if settings.fargate_workers:
        need = (settings.scheduler_cpu, settings.scheduler_mem, 0)
    words = f"{need[0]} CPU units, {need[1]} MiB and {need[2]} GPUs"
    fitting = [m for m in there if all(a >= b for a, b in zip(_room(m), need, strict=True))]
    if fitting:
        told = f"{len(fitting)} of {len(there)} have room for a task with {words} now"
        yield Finding(what=what, result="good", told=told)
        return
    yield Finding(
        what=what,
        result="bad",
        told=f"none of {len(there)} in {cluster} has room for a task with {words} now",
        step="add machines to the ECS cluster, or ask for smaller tasks",
    )


def _room(machine: dict[str, Any]) -> tuple[int, int, int]:
    """Read what is left of a machine: CPU units, MiB and GPUs."""
    left = {r["name"]: r for r in machine.get("remainingResources", ())}
    gpus = left.get("GPU", {})
    return (
        int(left.get("CPU", {}).get("integerValue", 0)),
        int(left.get("MEMORY", {}).get("integerValue", 0)),
        len(gpus.get("stringSetValue") or ()) or int(gpus.get("integerValue", 0)),
    )


IMAGE = Check("image", _image, ["caller", "settings"])
QUOTA = Check("quota of Fargate", _quota, ["caller", "settings"])
MACHINES = Check("machines of the ECS cluster", _machines, ["caller", "settings"])
