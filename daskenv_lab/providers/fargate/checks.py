"""What the doctor finds, and the looks that find it, each kept from spoiling the others."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from daskenv_lab.errors import DaskEnvLabError
from daskenv_lab.providers.fargate.aws import Aws, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from daskenv_lab.cluster import ClusterRef
    from daskenv_lab.environments import DaskCloudProviderEnvironment
    from daskenv_lab.providers.contract import Progress
    from daskenv_lab.providers.fargate.settings import Settings

Result = Literal["good", "warning", "bad", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's: what was looked at, how it is, and what to do.

    Examples
    --------
    >>> Finding(what="region", result="good", told="eu-west-1").step
    ''
    """

    what: str
    result: Result
    told: str
    step: str = ""
    """What to do; empty when there is nothing to be done."""

    def to_dict(self) -> dict[str, str]:
        """Write it down in JSON's types, for ``--json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who the credentials belong to."""

    arn: str
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The network that tasks are put in, as EC2 tells of it."""

    vpc: str
    subnets: tuple[Mapping[str, Any], ...]
    route_tables: tuple[Mapping[str, Any], ...]
    groups: tuple[Mapping[str, Any], ...]
    """The security groups; none while the shared one is not made."""

    own_group: bool
    """Whether the group is the shared one, which `up` opens for the caller."""

    def table_of(self, subnet: str) -> Mapping[str, Any] | None:
        """Find a subnet's route table: its own, or else the main one."""
        own = [t for t in self.route_tables if _has(t, SubnetId=subnet)]
        found = own or [t for t in self.route_tables if _has(t, Main=True)]
        return found[0] if found else None


@dataclass(slots=True, kw_only=True)
class Case:
    """What is examined, and what is known of it so far; a look may need what another found."""

    environment: DaskCloudProviderEnvironment
    ref: ClusterRef | None
    probe: bool
    progress: Progress
    given: Mapping[str, Any]
    """Resources that the user named in place of shared ones."""

    settings: Settings | None = None
    aws: Aws | None = None
    caller: Caller | None = None
    place: Place | None = None

    @property
    def command(self) -> Callable[[str], str]:
        """Give a function that writes a command to be typed."""
        rest = " --rehearse" if self.environment.rehearse else ""
        return lambda verb: f"`daskenv {verb}{rest}`"

    @property
    def account(self) -> Aws:
        """The way to AWS, for looks that need it."""
        assert self.aws is not None  # noqa: S101 - `examined` sees to it
        return self.aws

    @property
    def wanted(self) -> Settings:
        """The settings, for looks that need them."""
        assert self.settings is not None  # noqa: S101 - `examined` sees to it
        return self.settings

    @property
    def network(self) -> Place:
        """The network, for looks that need it."""
        assert self.place is not None  # noqa: S101 - `examined` sees to it
        return self.place

    @property
    def n_workers(self) -> int:
        """How many workers are asked for at most."""
        e = self.environment
        return e.adaptive[1] if e.adaptive else e.n_workers or 0


@dataclass(frozen=True, slots=True)
class Check:
    """One look."""

    what: str
    look: Callable[[Case], Iterable[Finding]]
    needs: Sequence[str] = ()
    """Fields of the case that others must have filled in."""


_NEEDED = {
    "settings": "the environment's arguments",
    "aws": "the region",
    "caller": "the credentials",
    "place": "the VPC and its subnets",
}


def examined(case: Case, checks: Iterable[Check]) -> Iterator[Finding]:
    """Look at one thing after the other; what fails stops only what needs it."""
    for check in checks:
        lacking = [_NEEDED[name] for name in check.needs if getattr(case, name) is None]
        if lacking:
            told = f"not looked at, as it needs {' and '.join(lacking)}"
            yield Finding(what=check.what, result="skipped", told=told)
            continue
        case.progress(f"looking at: {check.what}")
        try:
            yield from check.look(case)
        except NotPermitted as refused:
            yield of_error(check.what, refused, "skipped")
        except DaskEnvLabError as error:
            yield of_error(check.what, error, "bad")
        except Exception as error:  # noqa: BLE001 - a defect in one look must not hide the others
            told = f"the look itself failed ({type(error).__name__}: {error})"
            yield Finding(what=check.what, result="skipped", told=told, step="please report it")


def of_error(what: str, error: DaskEnvLabError, result: Result) -> Finding:
    """Make a finding of an error, whose sentence ends with the next step."""
    told, _, step = str(error).rpartition("; ")
    if not told:
        told, step = step, ""
    return Finding(what=what, result=result, told=told, step=step)


def _has(table: Mapping[str, Any], **wanted: Any) -> bool:
    return any(
        all(a.get(key) == value for key, value in wanted.items())
        for a in table.get("Associations", ())
    )
