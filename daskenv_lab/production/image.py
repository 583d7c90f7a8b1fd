"""The container image in which a flow run runs, so that its cluster gets the same."""

from __future__ import annotations

import json
import logging
import os
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from daskenv_lab import config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_log = logging.getLogger("daskenv_lab")

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod's credentials are, as Kubernetes documents it:
https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/"""

_CONTAINERS = ("prefect-job", "prefect", "flow")
"""Containers of a pod that a flow runs in, if it has several."""


class FlowRunImage(NamedTuple):
    """An image, and where it is named."""

    name: str
    source: str


def image_of(flow_run: FlowRun, *, service_account: Path = SERVICE_ACCOUNT) -> FlowRunImage | None:
    """Find the image of a flow run; None for one that runs in no container.

    What is nearest to the run wins: its own job variables, those of its deployment, the default of
    its work pool, and then what ECS or Kubernetes tell of the container that this process is in.

    Parameters
    ----------
    flow_run : prefect.client.schemas.objects.FlowRun
        The flow run that this process executes.
    service_account : Path
        The folder with a pod's credentials.

    Examples
    --------
    >>> image_of(flow_run)  # doctest: +SKIP
    FlowRunImage(name='ghcr.io/example/flows:1', source="the deployment's job variables")
    """
    if named := _named(flow_run.job_variables):
        return FlowRunImage(named, "the flow run's job variables")
    with get_client(sync_client=True) as client:
        if flow_run.deployment_id:
            try:
                deployment = client.read_deployment(flow_run.deployment_id)
            except ObjectNotFound:
                deployment = None  # Deleted while its flow run goes on.
            if deployment and (named := _named(deployment.job_variables)):
                return FlowRunImage(named, f"the job variables of the deployment {deployment.name}")
        if flow_run.work_pool_name and (
            named := _default(_template(client, flow_run.work_pool_name))
        ):
            return FlowRunImage(named, f"the default of the work pool {flow_run.work_pool_name}")
    found = _of_ecs() or _of_kubernetes(service_account)
    return FlowRunImage(*found) if found else None


def _template(client: SyncPrefectClient, work_pool: str) -> Mapping[str, Any]:
    try:
        return client.read_work_pool(work_pool).base_job_template
    except ObjectNotFound:
        return {}  # Deleted while its flow run goes on.


def _default(template: Mapping[str, Any]) -> str | None:
    """Read the default image out of a base job template, which is a JSON schema's."""
    variables = template.get("variables")
    properties = variables.get("properties") if isinstance(variables, dict) else None
    image = properties.get("image") if isinstance(properties, dict) else None
    return _text(image.get("default")) if isinstance(image, dict) else None


def _named(job_variables: Mapping[str, Any] | None) -> str | None:
    return _text((job_variables or {}).get("image"))


def _text(value: Any) -> str | None:
    # A template such as "{{ prefect.variables.image }}" is filled in by the worker alone.
    return value if isinstance(value, str) and value.strip() and "{{" not in value else None


def _of_ecs() -> tuple[str, str] | None:
    """Ask the metadata endpoint of this task, version 4.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html
    """
    address = os.environ.get("ECS_CONTAINER_METADATA_URI_V4")
    told = _told(address, dict) if address else None
    image = _text((told or {}).get("Image"))
    return (image, "this container's metadata on ECS") if image else None


def _of_kubernetes(account: Path) -> tuple[str, str] | None:
    """Ask the cluster's API for this pod; its service account must be allowed to read pods."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{k}") for k in ("HOST", "PORT"))
    if not host or not account.is_dir():
        return None
    try:
        token, space = ((account / k).read_text().strip() for k in ("token", "namespace"))
    except OSError as error:
        _log.debug("the pod's credentials cannot be read: %s", error)
        return None
    pod = os.environ.get("HOSTNAME") or socket.gethostname()
    address = f"https://{f'[{host}]' if ':' in host else host}:{port or 443}"

    def options() -> dict[str, Any]:
        return {
            "headers": {"Authorization": f"Bearer {token}"},
            "verify": ssl.create_default_context(cafile=str(account / "ca.crt")),
        }

    told = _told(f"{address}/api/v1/namespaces/{space}/pods/{pod}", options)
    containers = (told or {}).get("spec", {}).get("containers", [])
    if len(containers) > 1:
        containers = [c for c in containers if c.get("name") in _CONTAINERS]
    image = _text(containers[0].get("image")) if containers else None
    return (image, f"the pod {pod} on Kubernetes") if image else None


def _told(address: str, options: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Get an answer in JSON; None where there is none, which is told to the log alone."""
    limit = config.seconds("production.metadata-timeout")
    try:
        # No proxy of the user's stands between a container and its own metadata.
        answer = httpx.get(address, timeout=limit, trust_env=False, **options())
        told = answer.raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, OSError, json.JSONDecodeError) as error:
        _log.debug("%s tells nothing about this container: %s", address, error)
        return None
    return told if isinstance(told, dict) else None
