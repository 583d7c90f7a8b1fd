"""A task and its containers: what ECS would tell about them."""

from __future__ import annotations

import asyncio
import time
import uuid
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskenv_lab.rehearsal.addresses import Claim

USER_INITIATED = "UserInitiated"
FAILED_TO_START = "TaskFailedToStart"
CONTAINER_EXITED = "EssentialContainerExited"
SPOT = "SpotInterruption"


@dataclass(slots=True, kw_only=True)
class Container:
    """One container of a task."""

    name: str
    definition: dict[str, Any]
    """As in the task definition."""
    override: dict[str, Any]
    arn: str
    pid: int | None = None
    status: str = "PENDING"
    exit_code: int | None = None
    reason: str = ""
    gpus: tuple[str, ...] = ()

    @property
    def essential(self) -> bool:
        """Whether the task ends with it."""
        return bool(self.definition.get("essential", True))

    @property
    def image(self) -> str:
        """The image's name."""
        return str(self.definition["image"])

    @property
    def command(self) -> list[str]:
        """The words that start it: the entry point and the command, overridden or not."""
        command = self.override.get("command") or self.definition.get("command") or []
        return [*(self.definition.get("entryPoint") or []), *command]

    @property
    def variables(self) -> dict[str, str]:
        """The process variables of the definition, and those of the request over them."""
        both = [*(self.definition.get("environment") or []), *self.override.get("environment", [])]
        return {str(entry["name"]): str(entry.get("value", "")) for entry in both}


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """One task, from its request until an hour after its end.

    `task_arn`, `cluster_arn` and `tags` bear moto's names, whose tagging reads them.
    """

    id: str
    task_arn: str
    cluster_arn: str
    cluster_name: str
    family: str
    definition_arn: str
    definition: Any
    """moto's task definition."""
    containers: list[Container]
    overrides: dict[str, Any]
    launch_type: str
    capacity_provider: str | None
    platform_version: str | None
    group: str
    started_by: str
    tags: list[dict[str, str]]
    cpu: str | None
    memory: str | None
    execution_role: str | None
    subnet: str | None = None
    groups: list[str] = field(default_factory=list)
    public: bool = False
    instance: Any = None
    """moto's container instance, for a task that is not on Fargate."""
    needs: dict[str, Any] = field(default_factory=dict)
    """What it takes of that instance."""
    execute_command: bool = False

    status: str = "PROVISIONING"
    desired: str = "RUNNING"
    version: int = 1
    stop_code: str = ""
    stopped_reason: str = ""
    times: dict[str, float] = field(default_factory=lambda: {"createdAt": time.time()})
    claim: Claim | None = None
    interface: Any = None
    """moto's network interface, from the end of PROVISIONING to DEPROVISIONING."""
    details: list[dict[str, str]] = field(default_factory=list)
    attachment: str = field(default_factory=lambda: str(uuid.uuid4()))
    attachment_status: str = "PRECREATED"
    halt: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is to end, for whatever reason."""

    @property
    def private(self) -> str | None:
        """Its address inside, once it has its network interface."""
        return self.claim.private if self.claim and self.interface is not None else None

    @property
    def public_address(self) -> str | None:
        """Its address for the world, if it was to have one."""
        return self.claim.public if self.public and self.claim and self.interface else None

    @property
    def ended(self) -> bool:
        """Whether it is STOPPED."""
        return self.status == "STOPPED"

    @property
    def memory_limit(self) -> int | None:
        """Bytes that all of it may use."""
        if self.memory:
            return int(self.memory) * 2**20
        limits = [c.definition.get("memory") or 0 for c in self.containers]
        return sum(map(int, limits)) * 2**20 if limits and all(limits) else None

    def move(self, status: str, *stamps: str) -> None:
        """Go on to another status, and note when."""
        self.status = status
        self.version += 1
        for stamp in stamps:
            self.times[stamp] = time.time()

    def end(self, code: str, reason: str) -> None:
        """Say why it is to end; the first reason stays."""
        if self.desired != "STOPPED":
            self.desired = "STOPPED"
            self.stop_code, self.stopped_reason = code, reason
            self.times["stoppingAt"] = time.time()
            self.version += 1

    def describe(self, *, tags: bool) -> dict[str, Any]:
        """Tell about it as DescribeTasks does."""
        told: dict[str, Any] = {
            "taskArn": self.task_arn,
            "clusterArn": self.cluster_arn,
            "taskDefinitionArn": self.definition_arn,
            "availabilityZone": self._zone(),
            "attachments": self._attachments(),
            "attributes": [{"name": "ecs.cpu-architecture", "value": self._architecture()}],
            "containers": [self._container(c) for c in self.containers],
            "cpu": self.cpu,
            "memory": self.memory,
            "desiredStatus": self.desired,
            "lastStatus": self.status,
            "enableExecuteCommand": self.execute_command,
            "group": self.group,
            "healthStatus": "UNKNOWN",
            "launchType": self.launch_type,
            "capacityProviderName": self.capacity_provider,
            "overrides": self._overrides(),
            "startedBy": self.started_by or None,
            "stopCode": self.stop_code or None,
            "stoppedReason": self.stopped_reason or None,
            "tags": list(self.tags) if tags else [],
            "version": self.version,
            **self.times,
        }
        if self.launch_type == "FARGATE":
            told["platformVersion"] = self.platform_version
            told["platformFamily"] = "Linux"
            told["ephemeralStorage"] = {"sizeInGiB": 20}
        if self.instance is not None:
            told["containerInstanceArn"] = self.instance.container_instance_arn
        if "connectivityAt" in self.times:
            told["connectivity"] = "DISCONNECTED" if self.ended else "CONNECTED"
        return {key: value for key, value in told.items() if value is not None}

    def _zone(self) -> str | None:
        return None if self.interface is None else str(self.interface.availability_zone)

    def _architecture(self) -> str:
        platform = getattr(self.definition, "runtime_platform", None) or {}
        return str(platform.get("cpuArchitecture", "X86_64")).lower()

    def _attachments(self) -> list[dict[str, Any]]:
        if self.subnet is None:
            return []
        return [
            {
                "id": self.attachment,
                "type": "ElasticNetworkInterface",
                "status": self.attachment_status,
                "details": list(self.details) or [{"name": "subnetId", "value": self.subnet}],
            }
        ]

    def _overrides(self) -> dict[str, Any]:
        # ECS names every container here, whether anything of it was overridden or not.
        given = {c.get("name"): c for c in self.overrides.get("containerOverrides", [])}
        told = [given.get(c.name, {"name": c.name}) for c in self.containers]
        return {"inferenceAcceleratorOverrides": [], **self.overrides, "containerOverrides": told}

    def _container(self, container: Container) -> dict[str, Any]:
        interfaces = []
        if address := self._shown_address():
            interfaces = [{"attachmentId": self.attachment, "privateIpv4Address": address}]
        told: dict[str, Any] = {
            "containerArn": container.arn,
            "taskArn": self.task_arn,
            "name": container.name,
            "image": container.image,
            "lastStatus": container.status,
            "networkBindings": [],
            "networkInterfaces": interfaces,
            "healthStatus": "UNKNOWN",
            "cpu": str(container.definition.get("cpu", 0)),
            "memory": _text(container.definition.get("memory")),
            "memoryReservation": _text(container.definition.get("memoryReservation")),
            "exitCode": container.exit_code,
            "reason": container.reason or None,
            "gpuIds": list(container.gpus) or None,
            "runtimeId": f"{self.id}-{zlib.crc32(container.name.encode())}"
            if container.pid
            else None,
        }
        return {key: value for key, value in told.items() if value is not None}

    def _shown_address(self) -> str | None:
        found = [d["value"] for d in self.details if d["name"] == "privateIPv4Address"]
        return found[0] if found else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
