"""What can be chosen for a new cluster, where a Gateway has to be asked for it."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daskenv_lab import lifecycle
from daskenv_lab.errors import DaskEnvLabError
from daskenv_lab.providers import provider_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskenv_lab.providers.contract import Offer

_log = logging.getLogger("daskenv_lab")


@dataclass(frozen=True, slots=True)
class Offered:
    """What is known of a profile's or kind's offers."""

    offers: tuple[Offer, ...] = ()
    sentence: str = ""
    """What is waited for, or why nothing is known."""

    failed: bool = False


class Offers:
    """Asks providers what they offer, in threads, and remembers it.

    Parameters
    ----------
    told : callable
        Called, in any thread, whenever more is known.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self._known: dict[str, Offered] = {}
        self._asking: set[str] = set()
        self._lock = threading.Lock()

    def of(self, what: str) -> Offered:
        """Give what is known of a profile or kind; waits for nothing."""
        return self._known.get(what, Offered())

    def ask(self, what: str) -> None:
        """Ask for what a profile or kind offers, unless it is being asked for already."""
        with self._lock:
            if what in self._asking:
                return
            self._asking.add(what)
        if not self.of(what).offers:
            self._known[what] = Offered(sentence="asking what can be chosen…")
        threading.Thread(target=self._ask, args=(what,), daemon=True).start()

    def _ask(self, what: str) -> None:
        try:
            found = Offered(provider_for(lifecycle.environment_for(what)).offers())
        except DaskEnvLabError as error:
            found = Offered(sentence=str(error), failed=True)
        except Exception as error:  # noqa: BLE001 - a thread's error would be seen nowhere else
            _log.debug("%s was not told", what, exc_info=True)
            found = Offered(sentence=f"{type(error).__name__}: {error}", failed=True)
        with self._lock:
            self._asking.discard(what)
            self._known[what] = found
        self._told()
