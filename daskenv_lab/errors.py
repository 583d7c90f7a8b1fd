"""Everything this package raises, drawn before anything else.

A message is one sentence with the value, the reason and the next step. In a notebook only
that sentence is shown; ``%daskenv --debug`` or ``daskenv.debug: true`` in the configuration
brings the traceback back.
"""

from __future__ import annotations

import difflib
import traceback
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class DaskEnvLabError(Exception):
    """The base of all errors of this package.

    Examples
    --------
    >>> raise DaskEnvLabError("no cluster is named 'dev'; start it with `%daskenv up local`")
    Traceback (most recent call last):
    daskenv_lab.errors.DaskEnvLabError: no cluster is named 'dev'; start it with `%daskenv up local`
    """

    show_traceback: ClassVar[bool] = False
    """Whether a notebook shows the whole traceback and not only the sentence."""

    def _render_traceback_(
        self,
        *_args: object,
        **_kwargs: object,
    ) -> list[str]:
        """Give IPython the lines to show; IPython calls it with what it caught."""
        if self.show_traceback:
            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {self}"]


class ConfigError(DaskEnvLabError):
    """A key of the configuration, or a profile, cannot be used."""


class CommandError(DaskEnvLabError, ValueError):
    """A verb was not called in a way that it understands."""


class EnvironmentValueError(DaskEnvLabError, ValueError):
    """An environment was given an argument that is unknown, ill-typed or contradictory."""


class SecretMissing(DaskEnvLabError):
    """A secret is looked up in the process variables, and is not there."""


class StateError(DaskEnvLabError):
    """The state folder, or a file in it, cannot be read or written."""


class UnknownNameError(DaskEnvLabError, LookupError):
    """A name (of a cluster, a profile, a flow, a verb) is not known."""


class SessionError(DaskEnvLabError):
    """A verb cannot be carried out on the cluster as it is."""


class SettingsDiffer(SessionError):
    """The running cluster has other settings than those asked for."""


class PackageError(SessionError):
    """Packages cannot be installed on a cluster's workers."""


class ProviderError(DaskEnvLabError):
    """The side that runs the clusters failed or refused."""


class ProviderUnreachable(ProviderError):
    """Nothing answers at the provider's address."""


class AuthenticationFailed(ProviderError):
    """The provider refused the credentials."""


class ClusterStartError(ProviderError):
    """A cluster was asked for and did not start."""


class NotBootstrapped(ProviderError):
    """An AWS account lacks a part of the set of resources that all clusters share."""


class LeftBehind(ClusterStartError):
    """A cluster did not start, and what was started of it could not be removed."""


class WaitTimeout(ProviderError, TimeoutError):
    """A time limit ran out; the message holds the last state that was seen."""


class ClusterGone(ProviderError):
    """The cluster that a record or a reference names does not run any more."""


class NotSupported(ProviderError):
    """A kind of cluster cannot do what was asked for."""


class FlowError(DaskEnvLabError):
    """A flow cannot be run, or its run ended badly."""


class FlowNotFound(FlowError, UnknownNameError):
    """No flow has that name, or no file or module holds it."""


class FlowParameterError(FlowError, ValueError):
    """A parameter is missing, unknown or of the wrong type."""


class FlowRunFailed(FlowError):
    """A flow run ended in a state other than Completed."""


class WrongCluster(FlowError):
    """The executor reached another scheduler than the one it was given."""


class NotPicklable(FlowError):
    """Something that must travel to a worker cannot."""


class CodeError(FlowError):
    """The user's own modules cannot be shipped to the workers, or loaded as they now are."""


class PrefectApiError(FlowError):
    """The Prefect API did not start, or does not answer."""


class ExportError(DaskEnvLabError):
    """An environment cannot be written down as code."""


class ReportError(DaskEnvLabError):
    """A flow run's report in a file cannot be read."""


class RegistrationError(DaskEnvLabError):
    """A flow cannot be made a deployment."""


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Find the known word that is most like `name`, if any is.

    `cutoff` is the least likeness, from 0 to 1, as `difflib` counts it.
    """
    near = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name the nearest known word, or list them all.

    Returns
    -------
    str
        A clause such as ``"did you mean 'local'?"``, or ``"known are: a, b"``.

    Examples
    --------
    >>> did_you_mean("locl", ["local", "gateway"])
    "did you mean 'local'?"
    >>> did_you_mean("zzz", ["local", "gateway"])
    'known are: gateway, local'
    """
    near = nearest(name, known := list(known))
    if near:
        return f"did you mean {near!r}?"
    return f"known are: {', '.join(sorted(set(known)))}" if known else "none is known"
