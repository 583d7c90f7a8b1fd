"""Values about a rehearsal: where it is, how slow it is, and who may reach whom in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from daskenv_lab.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT = "123456789012"
"""The account number of every rehearsal."""

USER = "rehearsal"
"""The name of the IAM user whose access key it hands out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A running rehearsal: its address, and credentials that mean nothing anywhere else.

    Examples
    --------
    >>> Rehearsal(endpoint="http://127.0.0.1:5000", region="us-east-1", key_id="AK", secret="no",
    ...           pid=1)
    Rehearsal(endpoint='http://127.0.0.1:5000', region='us-east-1', key_id='AK', pid=1, \
account='123456789012')
    """

    endpoint: str
    region: str
    key_id: str
    secret: str = field(repr=False)
    pid: int
    """The server's process."""
    account: str = ACCOUNT

    def to_dict(self) -> dict[str, Any]:
        """Give everything, the credentials included, for ``daskenv rehearse status --json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Take what `to_dict` gave; other keys are left out."""
        return cls(**{f.name: told[f.name] for f in fields(cls) if f.name in told})


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long the steps of a task and the API's answers take, in seconds.

    Examples
    --------
    >>> Latency.of("realistic").image_pull
    30.0
    >>> Latency.of({"image-pull": 2}).network_interface
    0.0
    """

    network_interface: float = 0.0
    image_pull: float = 0.0
    container_start: float = 0.0
    api: float = 0.0

    @classmethod
    def of(cls, given: Any) -> Self:
        """Read a profile's name, or a mapping of steps to seconds.

        Raises
        ------
        ConfigError
            There is no such profile or step, or a value is no number of seconds.
        """
        if given is None or isinstance(given, str):
            # YAML and Dask read some spellings of none as nothing.
            given = given or "none"
            if given not in LATENCY_PROFILES:
                near = did_you_mean(given, LATENCY_PROFILES)
                raise ConfigError(
                    f"daskenv.rehearsal.latency is {given!r}; {near}, or give seconds by step"
                )
            return cls(**LATENCY_PROFILES[given])
        steps_known = [f.name for f in fields(cls)]
        if not isinstance(given, dict):
            raise ConfigError(
                f"daskenv.rehearsal.latency is {given!r}; it takes {' or '.join(LATENCY_PROFILES)},"
                f" or a mapping with {', '.join(steps_known)}"
            )
        steps = {}
        for key, value in given.items():
            name = str(key).replace("-", "_")
            if name not in steps_known:
                near = did_you_mean(name, steps_known)
                raise ConfigError(f"daskenv.rehearsal.latency has the step {key!r}; {near}")
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ConfigError(
                    f"daskenv.rehearsal.latency.{key} is {value!r}; it takes seconds from 0 upwards"
                )
            steps[name] = float(value)
        return cls(**steps)

    def to_dict(self) -> dict[str, float]:
        """Give the steps and their seconds."""
        return asdict(self)


LATENCY_PROFILES: dict[str, dict[str, float]] = {
    "none": {},
    # What Fargate commonly takes for an image of about 1 GB.
    "realistic": {"network_interface": 10.0, "image_pull": 30.0, "container_start": 5.0},
}
"""The named profiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Whether a connection would be let in, and by which rule.

    Examples
    --------
    >>> Reach(allowed=False, rule="", reason="no rule of sg-1 lets 203.0.113.7 in").allowed
    False
    """

    allowed: bool
    rule: str
    """The group and the rule that lets it in, such as ``sg-1: tcp 8786-8787 from 127.0.0.1/32``."""
    reason: str
    """One clause for a person."""
