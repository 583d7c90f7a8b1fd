"""An AWS account: made ready for clusters, its permissions written down, and examined."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, overload

from daskenv_lab import config, registry
from daskenv_lab.environments import DaskCloudProviderEnvironment
from daskenv_lab.environments.cloudprovider import PROVIDER_CLASSES
from daskenv_lab.errors import (
    AuthenticationFailed,
    CommandError,
    NotBootstrapped,
    ProviderUnreachable,
)
from daskenv_lab.lifecycle import environment_for

if TYPE_CHECKING:
    from daskenv_lab.environments import Environment
    from daskenv_lab.providers.contract import Progress
    from daskenv_lab.providers.fargate.doctor import Finding
    from daskenv_lab.providers.fargate.resource import Resource

_log = logging.getLogger("daskenv_lab")

PolicyKind = Literal["bootstrap", "use"]

_ANY = "*"
"""Stands for an account or a region in an IAM policy."""


class UnknownAccountWarning(UserWarning):
    """A policy was written without knowing for which account."""


def in_aws(
    what: str | Environment | None = None,
    *,
    rehearse: bool = False,
    asked: str = "this",
) -> DaskCloudProviderEnvironment:
    """Make the environment that stands for an account.

    Parameters
    ----------
    what : str or Environment, optional
        As for `lifecycle.environment_for`; by default ``daskenv.profile`` if that is one for AWS,
        and else ``"fargate"``.
    rehearse : bool
        Take the emulated account on this machine.
    asked : str
        What the account is wanted for, as an error tells it.

    Raises
    ------
    CommandError
        It does not run in AWS.

    Examples
    --------
    >>> in_aws("fargate", rehearse=True).rehearse
    True
    >>> in_aws("local", asked="--rehearse")
    Traceback (most recent call last):
    daskenv_lab.errors.CommandError: 'local' does not run in AWS, and --rehearse is only for what \
does; give fargate, ecs or a profile of one of these kinds
    """
    if what is None and config.profile()[0] not in (*PROVIDER_CLASSES, *PROVIDER_CLASSES.values()):
        what = "fargate"
    environment = environment_for(what)
    if not runs_in_aws(environment):
        named = what if isinstance(what, str) else type(environment).__name__
        raise CommandError(
            f"{named!r} does not run in AWS, and {asked} is only for what does; give "
            f"{', '.join(PROVIDER_CLASSES)} or a profile of one of these kinds"
        )
    return environment.replace(rehearse=True) if rehearse else environment


def runs_in_aws(environment: Environment) -> TypeGuard[DaskCloudProviderEnvironment]:
    """Tell whether an environment's clusters are tasks in an AWS account.

    Examples
    --------
    >>> runs_in_aws(environment_for("ecs")), runs_in_aws(environment_for("local"))
    (True, False)
    """
    return (
        isinstance(environment, DaskCloudProviderEnvironment) and environment.short_name is not None
    )


@overload
def bootstrap(
    what: str | Environment | None = ...,
    *,
    remove: Literal[True],
    dry_run: bool = ...,
    rehearse: bool = ...,
    progress: Progress | None = ...,
) -> list[str]: ...
@overload
def bootstrap(
    what: str | Environment | None = ...,
    *,
    remove: Literal[False] = ...,
    dry_run: bool = ...,
    rehearse: bool = ...,
    progress: Progress | None = ...,
) -> tuple[Resource, ...]: ...
def bootstrap(
    what: str | Environment | None = None,
    *,
    remove: bool = False,
    dry_run: bool = False,
    rehearse: bool = False,
    progress: Progress | None = None,
) -> tuple[Resource, ...] | list[str]:
    """Make the set of resources that all clusters in an account share, or remove it.

    Doing it again, or twice at once, changes nothing; what is damaged is mended.

    Parameters
    ----------
    what : str or Environment, optional
        A profile, ``"fargate"``, ``"ecs"`` or an environment; the resources that it names itself
        are left alone.
    remove : bool
        Remove the set, which AWS refuses while tasks run in it.
    dry_run : bool
        Change nothing.
    rehearse : bool
        In the emulated account on this machine, which is started if it does not run.
    progress : callable, optional
        Told what is made and waited for.

    Returns
    -------
    tuple of Resource
        The parts as they are now.
    list of str
        With `remove`, what was removed; with `dry_run` as well, what would be.

    Raises
    ------
    CommandError
        What was named does not run in AWS.
    ForeignResource, SharedSetInUse, WaitTimeout
        It cannot be made, or removed; nothing that is not ours was touched.
    AuthenticationFailed, ProviderUnreachable, AwsRefused

    Examples
    --------
    >>> [part.state for part in bootstrap("fargate", dry_run=True)]  # doctest: +SKIP
    ['exists', 'exists', 'exists', 'exists', 'exists']
    """
    environment = in_aws(what, rehearse=rehearse, asked="bootstrap")
    from daskenv_lab.providers.fargate import settings, shared
    from daskenv_lab.providers.fargate.account import account

    tell = progress or _log.info
    aws = account(environment, start=tell)
    if remove and dry_run:
        seen = shared.plan(aws, {})
        return [f"{r.kind} {r.name}" for r in seen if r.state in ("exists", "damaged")]
    if remove:
        return shared.remove(aws, progress=tell)
    given = settings.resources(environment)
    if not dry_run:
        tags = environment.provider_kwargs.get("tags")
        shared.ensure(aws, given, tags=tags, progress=tell)
    return shared.plan(aws, given)


def policy(
    kind: PolicyKind, what: str | Environment | None = None, *, rehearse: bool = False
) -> dict[str, Any]:
    """Write an IAM policy with the least that is needed, for an administrator.

    Parameters
    ----------
    kind : str
        ``bootstrap``: to make, mend and remove the shared set. ``use``: to run clusters on it.
    what : str or Environment, optional
        As for `bootstrap`; the resources that it names itself stand in the policy.
    rehearse : bool
        For the emulated account.

    Raises
    ------
    CommandError
        There is no such kind, or what was named does not run in AWS.

    Warns
    -----
    UnknownAccountWarning
        There are no credentials to ask for the account's number; ``*`` stands for it.

    Examples
    --------
    >>> policy("use", "fargate")["Version"]  # doctest: +SKIP
    '2012-10-17'
    """
    environment = in_aws(what, rehearse=rehearse, asked="a policy")
    from daskenv_lab.providers.fargate import policies, settings
    from daskenv_lab.providers.fargate.account import account

    region = number = _ANY
    try:
        aws = account(environment, start=_log.info)
        region = aws.region
        number = str(aws.call("sts", "get_caller_identity")["Account"])
    except (AuthenticationFailed, ProviderUnreachable) as error:
        # Who has no way into the account yet needs the policy most.
        warnings.warn(
            f"the policy is for any account, as its number cannot be asked for ({error})",
            UnknownAccountWarning,
            stacklevel=2,
        )
    return policies.policy(kind, number, region, settings.resources(environment))


def doctor(
    what: str | Environment | None = None,
    *,
    name: str | None = None,
    probe: bool = False,
    rehearse: bool = False,
    progress: Progress | None = None,
) -> tuple[Finding, ...]:
    """Examine an account and an environment: what was checked, the result, and what to do.

    Parameters
    ----------
    what : str or Environment, optional
        As for `bootstrap`; by default that of the named cluster.
    name : str, optional
        A recorded cluster, whose scheduler is to be reached.
    probe : bool
        Run a task that tells the versions in the image, which costs a minute of Fargate.
    rehearse : bool
        In the emulated account on this machine.
    progress : callable, optional
        Told what is being looked at.

    Raises
    ------
    CommandError
        What was named does not run in AWS.
    UnknownNameError
        No cluster has the name.

    Examples
    --------
    >>> [f.what for f in doctor("fargate") if f.result == "bad"]  # doctest: +SKIP
    []
    """
    record = registry.known(config.cluster_name(name)) if name is not None else None
    if record is not None and what is None:
        what = record.environment
    environment = in_aws(what, rehearse=rehearse, asked="the doctor")
    from daskenv_lab.providers.fargate.doctor import examine

    ref = record.ref if record is not None else None
    return tuple(examine(environment, probe=probe, ref=ref, progress=progress or _log.info))


def lacks_shared_set(environment: Environment, error: BaseException) -> bool:
    """Tell whether a cluster did not start because its account was never made ready."""
    missing = isinstance(error, NotBootstrapped) or isinstance(error.__cause__, NotBootstrapped)
    return missing and runs_in_aws(environment)
