"""What may follow in a ``%daskenv`` line. It asks nobody: no cluster, no flow, no heavy import."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from IPython.core.completer import SimpleCompletion

from daskenv_lab.cli import main
from daskenv_lab.errors import DaskEnvLabError
from daskenv_lab.server.panes import PANES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from IPython.core.completer import SimpleMatcherResult

_LINE = re.compile(r"\s*(?:[\w.,\s]+=\s*)?%?daskenv\s+(?P<rest>.*)", re.DOTALL)
_TAKES_CLUSTER = ("status", "detach", "down", "keep-alive")
_TAKES_PROFILE = ("up", "ls", "reap")
_TAKES_PROFILE_IN_AWS = ("bootstrap", "doctor")
_MOST_FILES = 200


def complete(before: str, namespace: Mapping[str, Any]) -> SimpleMatcherResult:
    """Complete the line that stands before the cursor.

    Parameters
    ----------
    before : str
        The line up to the cursor.
    namespace : mapping
        The notebook's variables.

    Examples
    --------
    >>> [c.text for c in complete("%daskenv sta", {})["completions"]]
    ['status']
    """
    matched = _LINE.fullmatch(before)
    if matched is None:
        return {"completions": []}
    rest = matched["rest"]
    words = rest.split()
    fragment = words.pop() if words and not rest[-1].isspace() else ""
    try:
        found = [w for w in _candidates(words, fragment, namespace) if w.startswith(fragment)]
    except (DaskEnvLabError, OSError):
        found = []  # A broken configuration is told by the verb, and not by the Tab key.
    # IPython offers all its magics where we know nothing, unless what is there completes itself.
    return {
        "completions": [SimpleCompletion(w, type="magic") for w in found or [fragment]],
        "suppress": True,
        "matched_fragment": fragment,
        "ordered": True,
    }


def _candidates(words: list[str], fragment: str, namespace: Mapping[str, Any]) -> Iterable[str]:
    verb = next((w for w in words if not w.startswith("-")), None)
    command = main.commands.get(verb) if verb else main
    if isinstance(command, click.Group) and command is not main:
        # A verb of the verb follows, as in `rehearse start`.
        words = words[words.index(str(verb)) + 1 :]
        verb, parent = next((w for w in words if not w.startswith("-")), None), command
        command = parent.commands.get(verb) if verb else parent
    if command is None:
        return []
    options = {o: p for p in command.params if isinstance(p, click.Option) for o in p.opts}
    asked_by = options.get(words[-1]) if words else None
    if asked_by is not None and not asked_by.is_flag:
        return _values(asked_by)
    if fragment.startswith("-"):
        return [*(o for o in options if o not in words), "--help"]
    if isinstance(command, click.Group):
        return list(command.commands)
    given = _positional(words[words.index(str(verb)) + 1 :], options)
    return _arguments(command, given, fragment, namespace)


def _values(option: click.Option) -> Iterable[str]:
    """Name what may follow an option."""
    if isinstance(option.type, click.Choice):
        return list(option.type.choices)
    return _clusters() if {"--name", "--on"} & set(option.opts) else []


def _positional(words: list[str], options: Mapping[str, click.Option]) -> list[str]:
    """Leave out the options, and what belongs to them."""
    kept = []
    follows = False
    for word in words:
        if not follows and not word.startswith("-"):
            kept.append(word)
        follows = word in options and not options[word].is_flag
    return kept


def _arguments(
    command: click.Command, given: list[str], fragment: str, namespace: Mapping[str, Any]
) -> Iterable[str]:
    verb = command.name
    if verb == "run":
        return _parameters(given, namespace) if given else [*_flows(namespace), *_files(fragment)]
    if given:
        return []
    if verb == "packages":
        return [*_flows(namespace), *_files(fragment)]
    if verb == "dashboard":
        return list(PANES)
    if verb in _TAKES_PROFILE:
        return _profiles()
    if verb in _TAKES_PROFILE_IN_AWS:
        return _profiles_in_aws()
    if verb in _TAKES_CLUSTER and command is main.commands.get(verb):
        return _clusters()
    return _files(fragment) if verb in ("export", "sync") else []


def _profiles() -> Iterable[str]:
    """Name the profiles and kinds."""
    from daskenv_lab import config

    return config.profile_names()


def _profiles_in_aws() -> list[str]:
    """Name the profiles and kinds whose clusters run in AWS."""
    from daskenv_lab import config
    from daskenv_lab.environments.cloudprovider import PROVIDER_CLASSES

    kinds = {*PROVIDER_CLASSES, *PROVIDER_CLASSES.values()}
    return [name for name in config.profile_names() if config.profile(name)[0] in kinds]


def _clusters() -> list[str]:
    """Name the recorded clusters."""
    from daskenv_lab import registry

    return registry.names()


def _flows(namespace: Mapping[str, Any]) -> list[str]:
    """Name the notebook's flows. Where there is one, Prefect has been imported."""
    prefect = sys.modules.get("prefect.flows")
    if prefect is None:
        return []
    return [n for n, v in namespace.items() if isinstance(v, prefect.Flow) and n[:1] != "_"]


def _parameters(given: list[str], namespace: Mapping[str, Any]) -> list[str]:
    flow = namespace.get(given[0])
    if given[0] not in _flows(namespace) or flow is None:
        return []
    taken = {word.partition("=")[0] for word in given[1:]}
    return [f"{name}=" for name in inspect.signature(flow.fn).parameters if name not in taken]


def _files(fragment: str) -> list[str]:
    """List Python files and folders whose path begins like the fragment."""
    folder, slash, start = fragment.rpartition("/")
    if any(c in start for c in "*?[") or ":" in start:
        return []
    place = Path(f"{folder}{slash}" or ".").expanduser()
    if not place.is_dir():
        return []
    found = []
    for path in sorted(place.glob(f"{start}*"))[:_MOST_FILES]:
        if path.name.startswith(".") and not start:
            continue
        if path.is_dir():
            found.append(f"{folder}{slash}{path.name}/")
        elif path.suffix == ".py":
            found.append(f"{folder}{slash}{path.name}")
    return found
