"""The doctor: looks at all that a cluster in AWS needs, and says what to do where it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from daskenv_lab.providers.fargate import settings as asked
from daskenv_lab.providers.fargate import shared
from daskenv_lab.providers.fargate.checks import Case, Check, Finding, Result, examined
from daskenv_lab.providers.fargate.checks_account import ARGUMENTS, CREDENTIALS, LONG_ARNS, REGION
from daskenv_lab.providers.fargate.checks_group import GROUP
from daskenv_lab.providers.fargate.checks_network import NAMES, ROUTES, VPC
from daskenv_lab.providers.fargate.checks_permissions import SIMULATED, TRIED
from daskenv_lab.providers.fargate.checks_scheduler import SCHEDULER
from daskenv_lab.providers.fargate.checks_shared import ROLES, SHARED_SET
from daskenv_lab.providers.fargate.checks_task import IMAGE, MACHINES, QUOTA
from daskenv_lab.providers.fargate.probe import Version, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daskenv_lab.cluster import ClusterRef
    from daskenv_lab.environments import DaskCloudProviderEnvironment
    from daskenv_lab.providers.contract import Progress

__all__ = ["Finding", "examine"]

_IN_ORDER = (
    ARGUMENTS,
    REGION,
    CREDENTIALS,
    LONG_ARNS,
    SHARED_SET,
    ROLES,
    VPC,
    ROUTES,
    NAMES,
    GROUP,
    TRIED,  # after the network, whose group it tries to open
    SIMULATED,
    IMAGE,
    QUOTA,
    MACHINES,
)


def examine(
    environment: DaskCloudProviderEnvironment,
    *,
    probe: bool = False,
    ref: ClusterRef | None = None,
    progress: Progress,
) -> Iterator[Finding]:
    """Look at everything that a cluster of this environment needs; only the probe starts anything.

    Parameters
    ----------
    environment : DaskCloudProviderEnvironment
        For Fargate or ECS. A rehearsal that does not run is started, unless `ref` is given.
    probe : bool
        Run the image once, for a moment, and compare its versions with this process's.
    ref : ClusterRef, optional
        A running cluster, the way to whose scheduler is gone hop by hop.
    progress : callable
        Told what is being looked at.

    Yields
    ------
    Finding
        One for each thing, as soon as it was looked at. What fails stops only what needs it.

    Examples
    --------
    >>> from daskenv_lab import DaskCloudProviderEnvironment
    >>> environment = DaskCloudProviderEnvironment("fargate", rehearse=True)
    >>> {f.result for f in examine(environment, progress=print)}  # doctest: +SKIP
    {'good', 'skipped'}
    """
    case = Case(
        environment=environment,
        ref=ref,
        probe=probe,
        progress=progress,
        given=asked.resources(environment),
    )
    asked_for = [*([SCHEDULER] if ref else []), *([_PROBE] if probe else [])]
    return examined(case, [*_IN_ORDER, *asked_for])


def _probed(case: Case) -> Iterator[Finding]:
    found = shared.find(case.account, case.given)
    if found is None:
        told = "not run, as the shared resources are not whole"
        step = f"run {case.command('bootstrap')} first"
        yield Finding(what="probe of the image", result="skipped", told=told, step=step)
        return
    for version in versions(
        case.environment, case.account, found, case.wanted, progress=case.progress
    ):
        yield _compared(version)


def _compared(version: Version) -> Finding:
    told = (
        f"{version.image or 'not installed'} in the image, {version.here or 'not installed'} here"
    )
    step = "" if version.verdict == "good" else "use an image with the version that is here"
    return Finding(
        what=f"probe: {version.package}",
        result=cast("Result", version.verdict),
        told=told,
        step=step,
    )


_PROBE = Check("probe of the image", _probed, ["caller", "settings"])
