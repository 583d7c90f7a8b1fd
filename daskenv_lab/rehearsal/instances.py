"""Tasks on container instances: what they need, and where there is room for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskenv_lab.rehearsal.sizes import units

if TYPE_CHECKING:
    from daskenv_lab.rehearsal.cloud import Cloud
    from daskenv_lab.rehearsal.task import Task


def needs_of(definition: Any) -> dict[str, int]:
    """Add up the CPU units, MB of memory and GPUs that a task takes of an instance."""
    containers = definition.container_definitions
    cpu = sum(int(c.get("cpu") or 0) for c in containers)
    memory = sum(int(c.get("memory") or c.get("memoryReservation") or 0) for c in containers)
    return {
        "CPU": units(str(definition.cpu), "VCPU") if definition.cpu else cpu,
        "MEMORY": units(str(definition.memory), "GB") if definition.memory else memory,
        "GPU": sum(gpus_of(c) for c in containers),
    }


def gpus_of(container: dict[str, Any]) -> int:
    """Tell how many GPUs a container asks for."""
    asked = container.get("resourceRequirements") or []
    return sum(int(entry["value"]) for entry in asked if entry.get("type") == "GPU")


def room_for(cloud: Cloud, cluster: str, needs: dict[str, int]) -> tuple[Any | None, str]:
    """Find an instance with room; call it under the lock.

    Returns
    -------
    tuple of moto's ContainerInstance or None, and str
        The instance, or the reason as RunTask tells it for one that came nearest.
    """
    reason = ""
    for instance in cloud.ecs.container_instances.get(cluster, {}).values():
        if instance.status != "ACTIVE":
            continue
        short = [name for name, need in needs.items() if need > _left(instance, name)]
        if not short:
            return instance, ""
        # The last thing that is missing tells most: a GPU is missing on most instances.
        reason = reason if reason and short[0] == "GPU" else f"RESOURCE:{short[0]}"
    return None, reason or "No Container Instances were found in your cluster."


def take(task: Task) -> None:
    """Take what a task needs of its instance, and hand its GPUs out; call it under the lock."""
    if task.instance is None:
        return
    for resource in task.instance.remaining_resources:
        need = task.needs.get(resource["name"], 0)
        if resource["name"] in {"CPU", "MEMORY"}:
            resource["integerValue"] -= need
        elif resource["name"] == "GPU":
            for container in task.containers:
                count = gpus_of(container.definition)
                container.gpus = tuple(resource["stringSetValue"][:count])
                resource["stringSetValue"] = resource["stringSetValue"][count:]


def give_back(task: Task) -> None:
    """Give all of that back; call it under the lock."""
    if task.instance is None:
        return
    for resource in task.instance.remaining_resources:
        if resource["name"] in {"CPU", "MEMORY"}:
            resource["integerValue"] += task.needs.get(resource["name"], 0)
        elif resource["name"] == "GPU":
            for container in task.containers:
                resource["stringSetValue"] = [*resource["stringSetValue"], *container.gpus]


def _left(instance: Any, name: str) -> int:
    for resource in instance.remaining_resources:
        if resource["name"] == name:
            if resource["type"] == "STRINGSET":
                return len(resource["stringSetValue"])
            return int(resource["integerValue"])
    return 0
