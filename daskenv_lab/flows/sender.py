"""What stands where Prefect looks for its sender of events, and names what they are about.

The module is pickled by value, for workers that have Prefect and not this package.
"""

from __future__ import annotations

import concurrent.futures
import sys
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events.clients import PrefectEventsClient
from prefect.events.related import related_resources_from_run_context
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, get_current_settings

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.events.schemas.events import Event, RelatedResource

    from daskenv_lab.flows.reporting import Reporter

COMMON_KEPT = 1_000
"""Flow runs whose resources are remembered."""


class Sender(EventsWorker):
    """Is found where Prefect looks for its sender of events, and gives them to the reporters.

    Parameters
    ----------
    reporters : dict
        The reporters of this process, by the API's address.
    url : str
        The API for which it stands there.
    """

    def __init__(self, reporters: dict[str, Reporter], url: str) -> None:
        options: Any = (("api_url", url),)
        super().__init__(PrefectEventsClient, options)
        # Prefect looks a sender up by its own class.
        self._key = hash((EventsWorker, PrefectEventsClient, options))
        self._reporters = reporters
        self._url = url
        self._common: dict[UUID, list[RelatedResource] | None] = {}

    @property
    def client(self) -> Any:
        """Prefect's client, by which the resources that an event is about are looked up."""
        return self.__dict__.get("_orchestration_client")

    @client.setter
    def client(self, client: Any) -> None:
        self._orchestration_client = client

    def send(self, item: Event) -> None:
        """Take an event, for the API of the flow run that it is about."""
        # Prefect keeps one sender for the process, where flow runs of two APIs may run at once.
        url = str(PREFECT_API_URL.value())
        (self._reporters.get(url) or self._reporters[self._url]).take_event(item)

    async def relate(self, event: Event) -> None:
        """Name the resources that an event is about, such as its flow run and flow."""
        flow_run_id = _told_in(event)
        if flow_run_id is not None and self._common.get(flow_run_id) is None:
            self._common[flow_run_id] = await related_resources_from_run_context(
                client=self.client, exclude={event.resource.id}
            )
        if not self.relate_as_before(event):
            await self.attach_related_resources_from_context(event)

    def relate_as_before(self, event: Event) -> bool:
        """Name them if another task run of the flow run has been related; tell whether it has.

        All have them in common, and to find them takes longer than all else that is done with an
        event.
        """
        flow_run_id = _told_in(event)
        common = None if flow_run_id is None else self._common.get(flow_run_id)
        if common is None:
            return False
        named = {resource.id for resource in event.involved_resources}
        more = [resource for resource in common if resource.id not in named]
        most: int = get_current_settings().server.events.maximum_related_resources
        if len(event.related) + len(more) > most:
            return False
        event.related += more
        return True

    def is_first(self, event: Event) -> bool:
        """Tell whether it is the first of its flow run's task runs."""
        flow_run_id = _told_in(event)
        if flow_run_id is None or flow_run_id in self._common:
            return False
        if len(self._common) >= COMMON_KEPT:
            self._common.clear()
        self._common[flow_run_id] = None
        return True

    def put_in_place(self) -> None:
        """Be found where Prefect looks for its sender."""
        with self._instance_cache_lock:
            cast("Any", self)._instances[self._key] = self

    def remove(self) -> None:
        """Give the place back to Prefect's own sender."""
        self._remove_instance()

    def _drain(self, at_exit: bool = False) -> concurrent.futures.Future[bool]:  # noqa: ARG002
        self._reporters[self._url].hurry()
        done: concurrent.futures.Future[bool] = concurrent.futures.Future()
        done.set_result(False)
        return done


def sender_here() -> Sender | None:
    """Give our sender, if it is the one that Prefect would send events by now."""
    chosen = EventsWorker._client_override
    if chosen is None:
        return None
    found = cast("Any", EventsWorker)._instances.get(hash((EventsWorker, *chosen)))
    return found if isinstance(found, Sender) else None


def queued_by_prefect() -> int:
    """Count the events that Prefect's own senders of this process have not sent yet."""
    # Prefect keeps its sender of log lines in the same place, and counts nothing off there.
    known: dict[int, Any] = cast("Any", EventsWorker)._instances
    own = [i for i in known.values() if isinstance(i, EventsWorker) and not isinstance(i, Sender)]
    return sum(sender._queue.unfinished_tasks for sender in own)


def _told_in(event: Event) -> UUID | None:
    """Give the flow run in which an event is told that is about one of its own task runs."""
    flow_run = FlowRunContext.get()
    if flow_run is None or flow_run.flow_run is None:
        return None
    about = event.resource.id.removeprefix("prefect.task-run.")
    inside = TaskRunContext.get()
    # A task run that another one submits is also about that other one.
    if about == event.resource.id or (inside and str(inside.task_run.id) != about):
        return None
    return flow_run.flow_run.id


cloudpickle.register_pickle_by_value(sys.modules[__name__])
