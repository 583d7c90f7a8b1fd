"""A widget with the controls that must work while a cell runs, and when the kernel is dead."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from daskenv_lab.notebook.scripts import source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from daskenv_lab.view.actions import Action
    from daskenv_lab.view.lab import Lab


class Controls(anywidget.AnyWidget):
    """A row for each action: its numbers, its button, its Python call and what came of it.

    The browser asks our Jupyter Server extension, and the kernel only where that is not there.

    Parameters
    ----------
    lab : Lab
        Hears what came of each.
    actions : iterable of Action
        In the order of the rows.
    """

    _esm = source("jupyter.js", "controls.js")
    _css = source("controls.css")

    actions = traitlets.List(traitlets.Dict()).tag(sync=True)
    said = traitlets.Dict().tag(sync=True)

    def __init__(self, lab: Lab, actions: Iterable[Action]) -> None:
        self.lab = lab
        self._actions = {action.control: action for action in actions}
        super().__init__(actions=[_row(action) for action in self._actions.values()])
        self.on_msg(self._asked)

    def heard(self, what: str) -> None:
        """Show what came of an action, whoever asked for it."""
        said = self.lab.said.get(what)
        if what in self._actions and said is not None:
            told = {"sentence": said.sentence, "busy": said.busy, "failed": said.failed}
            self.said = {**self.said, what: told}

    def _asked(self, _: object, message: Mapping[str, Any], __: object) -> None:
        match message:
            case {"make": str(control), "values": dict(values)} if control in self._actions:
                action = self._actions[control]
                self.lab.do(control, action.call(**values), then=lambda _: action.done)
            case {"said": str(control), "sentence": str(sentence), "failed": bool(failed)}:
                self.lab.say(control, sentence, failed=failed)
                self.lab.look()


def _row(action: Action) -> dict[str, Any]:
    words = {word: getattr(action, word) for word in ("control", "label", "code", "path")}
    words |= {word: getattr(action, word) for word in ("method", "done", "sure")}
    return {**words, "numbers": [asdict(number) for number in action.numbers]}
