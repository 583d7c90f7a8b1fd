"""The life of a task: PROVISIONING, PENDING, RUNNING, and to STOPPED by one way or another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from typing import TYPE_CHECKING

from daskenv_lab.rehearsal.addresses import claim
from daskenv_lab.rehearsal.instances import give_back
from daskenv_lab.rehearsal.output import LogsRefused, Output
from daskenv_lab.rehearsal.process import CannotStart, Process, image_folder, started
from daskenv_lab.rehearsal.secret_values import SecretNotThere
from daskenv_lab.rehearsal.task import CONTAINER_EXITED, FAILED_TO_START

if TYPE_CHECKING:
    from daskenv_lab.rehearsal.cloud import Cloud
    from daskenv_lab.rehearsal.task import Container, Task

log = logging.getLogger(__name__)

_NOT_FOUND = 127


class _Halted(Exception):
    """The task is to end, and not to go on to its next step."""


async def live(cloud: Cloud, task: Task) -> None:
    """Take a task through all its states; whatever happens, it ends STOPPED."""
    processes: list[Process] = []
    try:
        await _provision(cloud, task)
        await _start(cloud, task, processes)
        await _run(cloud, task, processes)
    except _Halted:
        pass
    except Exception:
        # A defect of the rehearsal, which must not leave a task that never ends.
        log.exception("the task %s failed", task.id)
        task.end(FAILED_TO_START, "the rehearsal itself failed; see its log")
    finally:
        await _finish(cloud, task, processes)


async def _provision(cloud: Cloud, task: Task) -> None:
    await _pause(task, cloud.latency.network_interface)
    subnet = None
    with cloud.lock:
        if task.subnet is not None:
            subnet = cloud.ec2.get_subnet(task.subnet)
        task.claim = claim(subnet.cidr_block if subnet else "127.77.240.0/20")
        if subnet is not None:
            _attach(cloud, task, subnet)
    cloud.move(task, "PENDING", "connectivityAt")


def _attach(cloud: Cloud, task: Task, subnet: object) -> None:
    assert task.claim is not None  # noqa: S101 - for the type checker
    interface = cloud.ec2.create_network_interface(
        subnet,
        task.claim.private,
        group_ids=task.groups,
        description=f"arn:aws:ecs:{cloud.region}:attachment/{task.attachment}",
    )
    interface.status = "in-use"
    interface.requester_managed = True
    if task.public:
        interface.public_ip = task.claim.public
    task.interface = interface
    task.attachment_status = "ATTACHED"
    told = {
        "subnetId": task.subnet,
        "networkInterfaceId": interface.id,
        "macAddress": interface.mac_address,
        "privateDnsName": getattr(interface, "private_dns_name", None),
        "privateIPv4Address": interface.private_ip_address,
    }
    task.details = [{"name": k, "value": v} for k, v in told.items() if v]


async def _start(cloud: Cloud, task: Task, processes: list[Process]) -> None:
    try:
        outputs = [_output(cloud, task, container) for container in task.containers]
        await _pull(cloud, task)
        await _pause(task, cloud.latency.container_start)
        for container, output in zip(task.containers, outputs, strict=True):
            try:
                output.open()
                processes.append(await started(cloud, task, container, output))
            except CannotStart as error:
                container.exit_code, container.reason = _NOT_FOUND, str(error)
                raise
            container.status = "RUNNING"
    except (CannotStart, LogsRefused) as error:
        task.end(FAILED_TO_START, str(error))
        raise _Halted from error
    except SecretNotThere as error:
        task.end(
            FAILED_TO_START,
            f"ResourceInitializationError: unable to pull secrets or registry auth: {error}",
        )
        raise _Halted from error
    cloud.move(task, "RUNNING", "startedAt")


async def _pull(cloud: Cloud, task: Task) -> None:
    task.times["pullStartedAt"] = time.time()
    for container in task.containers:
        image = container.image
        if cloud.orders.on_image(image) or image_folder(cloud, image) is False:
            reason = (
                "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed "
                f"to resolve ref {image}: {image}: not found"
            )
            container.reason = reason
            task.end(FAILED_TO_START, reason)
            raise _Halted
    await _pause(task, cloud.latency.image_pull)
    task.times["pullStoppedAt"] = time.time()


def _output(cloud: Cloud, task: Task, container: Container) -> Output:
    settings = container.definition.get("logConfiguration") or {}
    options = settings.get("options") or {} if settings.get("logDriver") == "awslogs" else {}
    return Output(cloud, options, container.name, task.id)


async def _run(cloud: Cloud, task: Task, processes: list[Process]) -> None:
    """Wait until an essential container ends, or the task is to end."""
    ends = {
        asyncio.create_task(process.wait()) for process in processes if process.container.essential
    }
    halted = asyncio.create_task(task.halt.wait())
    try:
        await asyncio.wait({*ends, halted}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in (*ends, halted):
            waiting.cancel()
    if not task.halt.is_set():
        with cloud.lock:
            task.end(CONTAINER_EXITED, "Essential container in task exited")


async def _finish(cloud: Cloud, task: Task, processes: list[Process]) -> None:
    """Stop what runs, give everything back, and be STOPPED."""
    cloud.move(task, "STOPPING" if processes else "DEPROVISIONING")
    await asyncio.gather(*(process.stop() for process in processes))
    task.times["executionStoppedAt"] = time.time()
    for container in task.containers:
        container.status = "STOPPED"
    await asyncio.to_thread(shutil.rmtree, cloud.folder / task.id, ignore_errors=True)
    with cloud.lock:
        if processes:
            task.move("DEPROVISIONING")
        if task.interface is not None:
            with contextlib.suppress(Exception):  # somebody deleted it through the API
                cloud.ec2.delete_network_interface(task.interface.id)
            task.attachment_status = "DELETED"
        give_back(task)
        if task.claim is not None:
            task.claim.release()
        cloud.move(task, "STOPPED", "stoppedAt")


async def _pause(task: Task, seconds: float) -> None:
    """Let time pass, but not for a task that is to end."""
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(task.halt.wait(), seconds)
    if task.halt.is_set() or task.desired == "STOPPED":
        raise _Halted
