"""A work pool, and which variables and queues it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.exceptions import ObjectNotFound

from daskenv_lab.errors import RegistrationError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prefect.client.orchestration import SyncPrefectClient


class Pool:
    """A work pool that exists, by the variables that its jobs take.

    Parameters
    ----------
    client : SyncPrefectClient
        A client of the API that has it.
    name : str
        Its name.

    Raises
    ------
    RegistrationError
        There is none of that name; the nearest is named.
    """

    def __init__(self, client: SyncPrefectClient, name: str) -> None:
        self._client = client
        self.name = name
        try:
            found = client.read_work_pool(name)
        except ObjectNotFound as error:
            known = [pool.name for pool in client.read_work_pools()]
            raise RegistrationError(
                f"there is no work pool {name!r}; {did_you_mean(name, known)} (make one with "
                f"`prefect work-pool create {name} --type process`)"
            ) from error
        self.type = found.type
        template = found.base_job_template
        self._variables = (template.get("variables") or {}).get("properties") or {}

    def refuse_unknown(self, names: Iterable[str]) -> None:
        """Refuse variables that the pool's jobs do not take.

        Raises
        ------
        RegistrationError
            There is one.
        """
        for name in names:
            # An empty template is a pool's own affair; `env.KEY` sets one key.
            if self._variables and name.partition(".")[0] not in self._variables:
                why = " (its flow runs are processes of the worker's machine)"
                raise RegistrationError(
                    f"the work pool {self.name!r} of the type {self.type!r} takes no {name!r}"
                    f"{why if self.type == 'process' else ''}; leave it out, or choose another pool"
                )

    def queue(self, wanted: str | None, labels: Sequence[str]) -> str | None:
        """Choose a work queue: the one that is named, or the first that a label names."""
        if wanted is not None or not labels:
            return wanted
        names = {"work_pool_name": self.name}
        answer = self._client.request(
            "POST", "/work_pools/{work_pool_name}/queues/filter", path_params=names, json={}
        )
        there = {queue["name"] for queue in answer.json()}
        return next((label for label in labels if label in there), None)
