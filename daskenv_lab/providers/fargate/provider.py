"""Clusters in AWS Fargate and ECS, which any session finds again by their tags."""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, ClassVar

from daskenv_lab import config
from daskenv_lab.bounded import Deadline
from daskenv_lab.cluster import ClusterInfo, ClusterRef
from daskenv_lab.errors import (
    ClusterGone,
    ClusterStartError,
    DaskEnvLabError,
    EnvironmentValueError,
    LeftBehind,
    NotBootstrapped,
    NotSupported,
    ProviderUnreachable,
    WaitTimeout,
)
from daskenv_lab.providers.contract import Provider
from daskenv_lab.providers.fargate import (
    adaptive,
    billing,
    fleet,
    ingress,
    inscheduler,
    listing,
    logs,
    scaling,
    shared,
    tls,
    vault,
)
from daskenv_lab.providers.fargate import settings as asked
from daskenv_lab.providers.fargate.account import account, place
from daskenv_lab.providers.fargate.fleet import Order
from daskenv_lab.providers.fargate.launch import LAST_CALL, launch, why_stopped
from daskenv_lab.providers.fargate.reach import reach
from daskenv_lab.providers.fargate.resource import LOG_GROUP, NAME
from daskenv_lab.providers.fargate.tags import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daskenv_lab.environments import Environment
    from daskenv_lab.prices import Rate
    from daskenv_lab.providers.connection import Connection
    from daskenv_lab.providers.contract import OnSubmitted, Progress
    from daskenv_lab.providers.fargate.aws import Aws
    from daskenv_lab.providers.fargate.fleet import Task
    from daskenv_lab.providers.fargate.settings import Settings
    from daskenv_lab.providers.fargate.shared import Shared

_log = logging.getLogger("daskenv_lab")
_ONE_LOOK = 5.0
# As long as a listening scheduler needs; a refused connection is answered at once, or never.
_FIRST_KNOCK = 4.0


class FargateProvider(Provider):
    """A scheduler's task and its workers' tasks, with one secret, beside the shared set.

    Examples
    --------
    >>> from daskenv_lab import DaskCloudProviderEnvironment
    >>> FargateProvider(DaskCloudProviderEnvironment("fargate")).name
    'fargate'
    """

    name: ClassVar[str] = "fargate"

    def __init__(self, environment: Environment) -> None:
        self.environment = asked.check(environment)

    def create(
        self, label: str, *, timeout: float, progress: Progress, on_submitted: OnSubmitted
    ) -> ClusterRef:
        """Start a scheduler, and the workers that the environment asks for beside it."""
        deadline = Deadline(timeout)

        def tell(sentence: str) -> None:
            progress(f"{label!r}: {sentence}")

        settings = asked.resolve(self.environment)
        aws = account(self.environment, start=tell)
        resources = self._resources(aws, tell)
        ref = ClusterRef(provider=self.name, id=vault.token(), location=place(aws))
        on_submitted(ref)
        try:
            self._start(aws, ref, label, settings, resources, deadline, tell)
        except BaseException as error:
            self._take_back(ref, error)
            raise
        return ref

    def connect(self, ref: ClusterRef, *, timeout: float) -> Connection:
        """Find the scheduler's task by its tags, fetch the TLS material, and connect."""
        limit = Deadline(timeout)
        aws = self._account()
        if aws is None:
            raise ClusterGone(
                "the rehearsal does not run any more, and with it went its clusters; start another "
                "with `daskenv up`"
            )
        scheduler = adaptive.scheduler_of(aws, self._ecs_cluster, ref)
        if scheduler is None:
            raise listing.ended(aws, self._ecs_cluster, ref)
        if scheduler.private_ip is None:
            raise ProviderUnreachable(
                f"the scheduler's task of {ref.id!r} is {scheduler.status} and has no address "
                "yet; wait a little"
            )
        try:
            return self._knock(aws, ref, scheduler, limit)
        except vault.SecretGone:
            raise
        except ClusterGone as silent:
            if adaptive.scheduler_of(aws, self._ecs_cluster, ref) is None:
                raise listing.ended(aws, self._ecs_cluster, ref) from silent
            # Not gone: whoever believes so would destroy a cluster that works for somebody.
            raise ProviderUnreachable(
                f"the scheduler's task of {ref.id!r} runs and does not answer here ({silent}); it "
                "may be frozen or out of reach: look with `daskenv doctor fargate`, or start "
                "another in its place with `daskenv up --replace`"
            ) from silent

    def info(self, connection: Connection) -> ClusterInfo:
        """Tell how the cluster is; whoever only scales it by its load is no client."""
        return scaling.info(connection)

    def scale(self, connection: Connection, n: int) -> None:
        """Start the tasks that lack, or let the surplus hand over its data and stop it."""
        aws, order = self._workers_of(connection)
        connection.set_label(requested=n, adaptive=None)
        adaptive.forget(connection.ref)
        deadline = Deadline(config.seconds("timeouts.workers"))
        scaling.scale(aws, connection, order, n, deadline=deadline, progress=_log.info)

    def adapt(self, connection: Connection, minimum: int, maximum: int) -> None:
        """Have one process of this machine follow the load, unless one does already."""
        aws, _ = self._workers_of(connection)
        connection.set_label(requested=None, adaptive=[minimum, maximum])
        adaptive.hold(self.environment, aws, self._ecs_cluster, connection)

    def logs(
        self, connection: Connection, *, lines: int, worker: str | None = None
    ) -> Mapping[str, str]:
        """Give the last lines of each task's log in CloudWatch, the failed ones' too."""
        return logs.of_cluster(
            account(self.environment),
            self._ecs_cluster,
            connection.ref.id,
            self._log_group,
            lines,
            worker=worker,
            names=scaling.workers_by_name(connection) if worker else None,
        )

    def follow_logs(
        self, connection: Connection, *, lines: int, worker: str | None = None
    ) -> Iterator[tuple[str, str]]:
        """Go through what the tasks write in CloudWatch, those too that start meanwhile."""
        return logs.follow(
            account(self.environment),
            self._ecs_cluster,
            connection.ref.id,
            self._log_group,
            worker=worker,
            names=scaling.workers_by_name(connection) if worker else None,
            lines=lines,
        )

    def troubles(self, connection: Connection) -> list[str]:
        """Say why workers stopped that nobody told to, once for each reason."""
        aws = account(self.environment)
        ended = {
            t.reason: t
            for t in fleet.of_everybody(aws, self._ecs_cluster, stopped=True)
            if t.identity and t.identity.cluster == connection.ref.id and t.failed
        }
        return [f"a task stopped: {why_stopped(aws, self._log_group, t)}" for t in ended.values()]

    def keep_alive(self, connection: Connection, seconds: float) -> float | None:
        """Let the cluster not end by itself for so long; gives the time left until it may."""
        left = scaling.on_scheduler(connection, inscheduler.keep_alive, seconds=seconds)
        return None if left is None else float(left)

    def takes_image(self) -> bool:
        """Tell that each task is a container."""
        return True

    def rate(self) -> Rate | None:
        """Tell what the tasks cost where the account is."""
        aws = self._account()
        return billing.rate(self.environment, aws.region) if aws else None

    def shutdown(self, ref: ClusterRef, *, timeout: float) -> None:
        """Stop all tasks of the cluster, and remove its secret and its rule for our address."""
        deadline = Deadline(timeout)
        aws = self._account()
        if aws is None:
            return  # All of it went with the rehearsal.
        adaptive.forget(ref)
        tasks = fleet.of_cluster(aws, self._ecs_cluster, f"daskenv/{ref.id}")
        arns = [t.arn for t in tasks]
        secret = next((i.secret for t in tasks if (i := t.identity) and i.secret), "")
        # The scheduler last: workers that lost theirs take many seconds to end.
        for last in (False, True):
            chosen = [t.arn for t in tasks if (t.role == "scheduler") is last]
            fleet.stop(aws, self._ecs_cluster, chosen, reason="daskenv down")
        vault.remove(aws, ref.id, name=secret)
        found = fleet.wait(aws, self._ecs_cluster, arns, fleet.all_over, deadline=deadline)
        if left := [t for t in found if t.status not in fleet.OVER]:
            raise WaitTimeout(
                f"{len(left)} tasks of the cluster {ref.id!r} are still {left[0].status} after "
                f"{timeout:g} s, and were told to stop; look again with `daskenv ls`"
            )
        self._withdraw(aws)

    def find(self) -> list[ClusterInfo]:
        """List the clusters of ours in the account, whoever made them, and what is left of some."""
        return listing.clusters(self.environment, aws) if (aws := self._account()) else []

    def _start(
        self,
        aws: Aws,
        ref: ClusterRef,
        label: str,
        settings: Settings,
        resources: Shared,
        deadline: Deadline,
        progress: Progress,
    ) -> None:
        e = self.environment
        material, protocol = tls.chosen(e.security)
        launched = launch(
            aws,
            resources,
            settings,
            Identity(
                cluster=ref.id,
                name=label,
                owner=config.owner(),
                fingerprint=e.fingerprint,
                allow=self._caller(aws, settings, resources),
                port=str(settings.scheduler_port),
                protocol=protocol,
                public="" if settings.private else "1",
            ),
            material,
            n_workers=e.adaptive[0] if e.adaptive else e.n_workers or 0,
            deadline=deadline,
            progress=progress,
        )
        progress("the scheduler's task runs; waiting for the scheduler to answer")
        with contextlib.ExitStack() as undo:
            undo.callback(launched.give_up)
            connection = self._first_connection(aws, ref, launched.scheduler, deadline)
            with contextlib.closing(connection):
                connection.set_label(workers_order=launched.workers.to_dict())
                scaling.on_scheduler(connection, inscheduler.watch, timeout=settings.idle_timeout)
            undo.pop_all()
        try:
            launched.first_workers.result(deadline.left + LAST_CALL)
        except NotYet as error:
            raise WaitTimeout(
                f"ECS has not answered the call for the first workers within {deadline.seconds:g} "
                "s; try again, or raise daskenv.timeouts.start"
            ) from error

    def _resources(self, aws: Aws, progress: Progress) -> Shared:
        """Find the shared set; a rehearsal's is made at once."""
        given = asked.resources(self.environment)
        if (found := shared.find(aws, given)) is not None:
            return found
        if aws.rehearsal:
            return shared.ensure(aws, given, progress=progress)
        lacking = [r for r in shared.plan(aws, given) if r.state not in ("exists", "given")]
        raise NotBootstrapped(
            f"the account lacks {', '.join(f'the {r.kind} {r.name!r}' for r in lacking)} in "
            f"{aws.region}; make the shared set once with `daskenv bootstrap` or `up --bootstrap` "
            "(look at it first with `daskenv bootstrap --dry-run`), or name resources of your own "
            "in the profile"
        )

    def _caller(self, aws: Aws, settings: Settings, resources: Shared) -> str:
        """Give the address to let in; none where the user's own groups decide."""
        given = self.environment.provider_kwargs.get("allow_from")
        if resources.own_group is None:
            if given is not None:
                raise EnvironmentValueError(
                    f"allow_from={given!r} was given beside security_groups, which are not ours to "
                    "change; leave one of the two out"
                )
            return ""
        return ingress.caller_cidr(given, aws=aws, private=settings.private, vpc=resources.vpc)

    def _let_in(self, aws: Aws, scheduler: Task) -> bool:
        """Open the way from this machine's address; False where that is not ours to do."""
        identity = scheduler.identity
        found = shared.find(aws, asked.resources(self.environment))
        if identity is None or not identity.allow or not found or found.own_group is None:
            return False
        given = self.environment.provider_kwargs.get("allow_from")
        cidr = ingress.caller_cidr(given, aws=aws, private=not identity.public, vpc=found.vpc)
        known = identity.allow.split()
        if cidr not in known:
            # Before the rule is made: who cleans up keeps the rules that a tag names.
            fleet.tag(aws, scheduler, identity.allowing([*known, cidr]))
        ingress.allow(aws, found.own_group, cidr, who=identity.who, port=int(identity.port))
        return True

    def _knock(self, aws: Aws, ref: ClusterRef, scheduler: Task, limit: Deadline) -> Connection:
        """Connect to a scheduler that should listen; if need be, open the way to it."""
        try:
            first = Deadline(min(limit.left, _FIRST_KNOCK))
            return reach(self.environment, aws, ref, scheduler, first)
        except vault.SecretGone:
            raise
        except ClusterGone:
            # Another machine made it, or this one has another address now.
            if not self._let_in(aws, scheduler):
                raise
            return reach(self.environment, aws, ref, scheduler, limit)

    def _first_connection(
        self, aws: Aws, ref: ClusterRef, scheduler: Task, deadline: Deadline
    ) -> Connection:
        """Connect as soon as the scheduler listens; if its task ends before, say why."""
        while True:
            try:
                limit = Deadline(min(deadline.left, _ONE_LOOK))
                return reach(self.environment, aws, ref, scheduler, limit)
            except ClusterGone as silent:
                [scheduler] = fleet.describe(aws, self._ecs_cluster, [scheduler.arn])
                if not scheduler.wanted:
                    why = why_stopped(aws, self._log_group, scheduler)
                    raise ClusterStartError(
                        f"the scheduler ended before it answered: {why}"
                    ) from silent
                if deadline.passed:
                    raise WaitTimeout(
                        f"the scheduler's task runs, and nothing answers at its port within "
                        f"{deadline.seconds:g} s; look with `daskenv doctor fargate`, which names "
                        "the failing hop"
                    ) from silent
                # Our rule may be gone again: somebody's `down` took it for one that nobody wants,
                # and died before it could put it back.
                self._let_in(aws, scheduler)

    def _take_back(self, ref: ClusterRef, error: BaseException) -> None:
        """Remove what was started of a cluster."""
        try:
            self.shutdown(ref, timeout=config.seconds("timeouts.stop"))
        except DaskEnvLabError as left:
            raise LeftBehind(
                f"{str(error).rstrip('.') or 'the start was interrupted'}; and what was started "
                f"could not be removed ({left}); try `daskenv reap` later"
            ) from error

    def _account(self) -> Aws | None:
        """Give the way to the account; None if it was a rehearsal that is over."""
        try:
            return account(self.environment)
        except ProviderUnreachable:
            if self.environment.rehearse:
                return None
            raise

    @property
    def _ecs_cluster(self) -> str:
        return str(asked.resources(self.environment).get("cluster_arn", NAME))

    @property
    def _log_group(self) -> str:
        return str(asked.resources(self.environment).get("cloudwatch_logs_group", LOG_GROUP))

    def _workers_of(self, connection: Connection) -> tuple[Aws, Order]:
        """Give what each worker of a cluster is asked for with."""
        written = connection.label().get("workers_order")
        if not written:
            raise NotSupported(
                f"the cluster {connection.ref.id!r} was not finished by whoever started it; remove "
                "it with `daskenv down`, and start another"
            )
        return account(self.environment), Order.from_dict(written)

    def _withdraw(self, aws: Aws) -> None:
        """Close the way for addresses from which nobody has a cluster any more."""
        given = asked.resources(self.environment)
        found = None if "security_groups" in given else shared.find(aws, given)
        if found and found.own_group:
            ingress.withdraw(aws, found.own_group, wanted=lambda: listing.let_in(aws))
