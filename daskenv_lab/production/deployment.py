"""Making a Prefect deployment whose flow runs have clusters of their own."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentCreate, DeploymentScheduleCreate
from prefect.client.schemas.schedules import construct_schedule
from prefect.exceptions import PrefectHTTPStatusError
from prefect.schedules import Schedule
from prefect.utilities.urls import url_for

from daskenv_lab.errors import RegistrationError
from daskenv_lab.export import VARIABLE, BoundFlow, Request, one_line, write_environment
from daskenv_lab.flows.api import prefect_api
from daskenv_lab.production.entrypoint import entrypoint_of, placed, prove
from daskenv_lab.production.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.client.orchestration import SyncPrefectClient

    from daskenv_lab.environments import Environment
    from daskenv_lab.production.entrypoint import Entrypoint, Proof

_NO_LETTERS = re.compile(r"\W+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A deployment that was made."""

    id: UUID
    name: str
    """``flow/deployment``, as Prefect's command line takes it."""

    entrypoint: str
    path: str
    """The folder that the entrypoint counts from."""

    work_pool_name: str
    work_queue_name: str | None
    url: str | None
    """Its page in Prefect's own interface."""

    written: Path | None
    """The module that was written for it."""

    secrets: tuple[str, ...]
    """Process variables that its flow runs must have, since secrets are read from them."""

    def __str__(self) -> str:
        """Say what was made, and how it is run."""
        run = f"`prefect deployment run '{self.name}'`"
        lines = [
            f"Registered {self.name} in the work pool {self.work_pool_name}; run it with {run}"
        ]
        if self.written:
            lines.append(f"Its flow is in {self.written}")
        if self.secrets:
            lines.append(f"Its flow runs must have {', '.join(self.secrets)}, which hold secrets")
        return "\n".join(lines)


def register(
    environment: Environment,
    flow: Any,
    *,
    name: str,
    work_pool_name: str,
    work_queue_name: str | None = None,
    image: str | None = None,
    schedule: Any = None,
    parameters: Mapping[str, Any] | None = None,
    description: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
    path: str | Path | None = None,
    module: str | Path | None = None,
    overwrite: bool = False,
) -> Deployment:
    """Make or change a deployment; see `Environment.register`."""
    if not name or "/" in name:
        raise RegistrationError(
            f"name={name!r} cannot name a deployment; give a text that is not empty, without '/'"
        )
    scheduled = _schedules(schedule)
    variables = {**(job_variables or {}), **({} if image is None else {"image": image})}
    with prefect_api(), get_client(sync_client=True) as client:
        # What can be told at once comes before the flow is loaded, which takes seconds.
        pool = Pool(client, work_pool_name)
        pool.refuse_unknown(variables)
        queue = pool.queue(work_queue_name, environment.labels)
        entrypoint, proof, written = _bound(environment, flow, name, module, overwrite=overwrite)
        if not written and (settings := _settings(environment, proof)):
            pool.refuse_unknown(["env"])
            variables["env"] = {**dict(variables.get("env") or {}), **settings}
        folder = str(path) if path is not None else str(entrypoint.folder)
        made = DeploymentCreate(
            name=name,
            flow_id=client.create_flow_from_name(proof.flow),
            version=proof.version,
            description=description or proof.description,
            entrypoint=entrypoint.path,
            path=folder if path is not None or pool.type == "process" else None,
            schedules=scheduled,
            parameters=dict(parameters or {}),
            parameter_openapi_schema=proof.parameters,
            enforce_parameter_schema=proof.validates,
            tags=list(environment.labels),
            labels=_labels(environment.metadata),
            work_pool_name=work_pool_name,
            work_queue_name=queue,
            job_variables=variables,
            pull_steps=[],
        )
        deployment_id = _create(client, made)
        return Deployment(
            id=deployment_id,
            name=f"{proof.flow}/{name}",
            entrypoint=entrypoint.path,
            path=folder,
            work_pool_name=work_pool_name,
            work_queue_name=queue,
            url=url_for("deployment", obj_id=deployment_id),
            written=written,
            secrets=tuple(secret.env_var for secret in environment.secrets),
        )


def _bound(
    environment: Environment, flow: Any, name: str, module: str | Path | None, *, overwrite: bool
) -> tuple[Entrypoint, Proof, Path | None]:
    """Find the flow's place; one that is bound to no environment gets a module that binds it."""
    entrypoint = entrypoint_of(flow)
    if entrypoint is None:
        own, folder = BoundFlow(name=flow.fn.__name__, value=flow), Path.cwd()
    else:
        proof = prove(entrypoint)
        if proof.fingerprint is not None:
            return entrypoint, proof, None
        own, folder = BoundFlow(name=entrypoint.name, module=entrypoint.module), entrypoint.beside
    target = folder / f"{own.name}_{_NO_LETTERS.sub('_', name)}.py" if module is None else module
    request = Request(
        source=f"the registration of {own.name!r} as {name!r}", when=datetime.now(UTC), flow=own
    )
    written = write_environment(environment, target, request, overwrite=overwrite)
    entrypoint = placed(written, own.name)
    return entrypoint, prove(entrypoint), written


def _settings(environment: Environment, proof: Proof) -> dict[str, str]:
    """Say with which process variables the flow runs get this environment."""
    if proof.fingerprint == environment.fingerprint:
        return {}
    # Prefect fills in templates in job variables, and finds none in this.
    return {VARIABLE: one_line(environment)}


def _create(client: SyncPrefectClient, made: DeploymentCreate) -> UUID:
    # What is not said here, such as a limit that was set by hand, stays; None takes away.
    payload = made.model_dump(mode="json", exclude_unset=True)
    try:
        answer = client.request("POST", "/deployments/", json=payload)
    except PrefectHTTPStatusError as error:
        told = error.response.json().get("detail", error.response.text)
        raise RegistrationError(
            f"the Prefect API refuses the deployment {made.name!r}: {told!s:.400}"
        ) from error
    return UUID(answer.json()["id"])


def _labels(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Make Prefect's key-value labels of the notes; what is no plain value becomes JSON."""
    plain = (str, int, float, bool)
    return {
        key: value if isinstance(value, plain) else json.dumps(value, default=str)
        for key, value in metadata.items()
    }


def _schedules(given: Any) -> list[DeploymentScheduleCreate]:
    """Read a schedule: a cron line, seconds or a timedelta between runs, or one of Prefect's."""
    if given is None:
        return []
    if isinstance(given, list | tuple):
        return [one for each in given for one in _schedules(each)]
    try:
        match given:
            case DeploymentScheduleCreate():
                return [given]
            case Schedule():
                return [DeploymentScheduleCreate.from_schedule(given)]
            case str():
                return [DeploymentScheduleCreate(schedule=construct_schedule(cron=given))]
        return [DeploymentScheduleCreate(schedule=construct_schedule(interval=given))]
    except (TypeError, ValueError, AttributeError) as error:
        told = " ".join(str(error).split())
        raise RegistrationError(
            f"schedule={given!r} is no schedule ({told:.200}); give a cron line such as "
            "'0 6 * * *', seconds or a timedelta between runs, or a prefect.schedules.Schedule"
        ) from error
