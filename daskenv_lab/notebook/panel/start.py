"""Start a cluster: a profile, its sizes, and a fixed or adaptive number of workers."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from daskenv_lab.errors import DaskEnvLabError
from daskenv_lab.notebook.panel.parts import CallButton, labelled, show, text
from daskenv_lab.view import start

if TYPE_CHECKING:
    from daskenv_lab.session import Session
    from daskenv_lab.view.call import Call
    from daskenv_lab.view.lab import Lab


class Size(widgets.VBox):  # type: ignore[misc]
    """A fixed number of workers, or two bounds."""

    def __init__(self, workers: int) -> None:
        self.adaptive = labelled(widgets.Checkbox, "Follow the load", value=False, indent=True)
        self.workers = labelled(widgets.BoundedIntText, "Workers", value=workers, min=0, max=10000)
        self.minimum = labelled(widgets.BoundedIntText, "At least", value=0, min=0, max=10000)
        self.maximum = labelled(widgets.BoundedIntText, "At most", value=10, min=1, max=10000)
        super().__init__([self.adaptive, self.workers])
        self.adaptive.observe(self._chosen, "value")

    @property
    def settings(self) -> dict[str, int]:
        """The arguments of an environment."""
        if self.adaptive.value:
            low, high = self.minimum.value, self.maximum.value
            if low > high:
                raise ValueError(f"at least {low} is more than at most {high}; change one of them")
            return {"adaptive_min_workers": low, "adaptive_max_workers": high}
        return {"n_workers": self.workers.value}

    def watch(self, changed: Any) -> None:
        """Call a function whenever a field changes."""
        for field in (self.adaptive, self.workers, self.minimum, self.maximum):
            field.observe(changed, "value")

    def _chosen(self, _: object) -> None:
        bounds = [self.minimum, self.maximum]
        self.children = [self.adaptive, *(bounds if self.adaptive.value else [self.workers])]


class StartPart(widgets.VBox):  # type: ignore[misc]
    """The fields of a new cluster, and the button that starts or reuses it."""

    def __init__(self, lab: Lab, workers: int) -> None:
        self.lab = lab
        self.what = labelled(widgets.Dropdown, "Profile or kind", options=start.profiles())
        self.rehearse = labelled(widgets.Checkbox, "Rehearse on this machine", value=True)
        self.size = Size(workers)
        self._choices: dict[str, tuple[start.Choice, Any]] = {}
        self._chosen = widgets.VBox()
        self._trouble = widgets.HTML()
        self.button = CallButton(
            lab, "start", "Start or reuse", self._call, then=_started, style="primary"
        )
        super().__init__([self.what, self._chosen, self.size, self._trouble, self.button])
        self.what.observe(self._picked, "value")
        self.rehearse.observe(self.button.refresh, "value")
        self.size.watch(self.button.refresh)
        self._changed()

    def heard(self, what: str) -> None:
        """Show what came of the start, and what a Gateway offers."""
        self.button.heard(what)
        if what == "offers":
            self._changed()

    def ask(self) -> None:
        """Have a Gateway asked for what it offers, if that is what will be started."""
        with contextlib.suppress(DaskEnvLabError):  # told by `_changed`
            if start.asks(self.what.value):
                self.lab.offers.ask(self.what.value)

    def _picked(self, _: object) -> None:
        """Offer what another profile or kind has."""
        self._choices = {}
        self.ask()
        self._changed()

    def _changed(self, *_: object) -> None:
        """Offer what the kind has, with what goes with what was chosen."""
        offered = self.lab.offers.of(self.what.value)
        told = text(offered.sentence, "failed" if offered.failed else "waits")
        try:
            found = start.choices(self.what.value, self._values, offered.offers)
            rehearsal = start.takes_rehearsal(self.what.value)
        except DaskEnvLabError as error:
            found, rehearsal, told = (), False, text(error, "failed")
        show(self._trouble, told if offered.sentence or not found else "")
        self._offer(found, rehearsal=rehearsal)
        self.button.refresh()

    def _offer(self, found: tuple[start.Choice, ...], *, rehearsal: bool) -> None:
        """Show the fields; one that stays the same keeps what is being typed, and the focus."""
        before = self._choices
        self._choices = {}
        for choice in found:
            shape = replace(choice, value=None)
            known, field = before.get(choice.name, (shape, None))
            if field is None or known != shape or field.value != choice.value:
                field = _field(choice)
                field.observe(self._changed, "value")
            self._choices[choice.name] = (shape, field)
        fields = [field for _, field in self._choices.values()]
        for _, field in before.values():
            if field not in fields:
                field.unobserve_all()
        children = (*fields, *([self.rehearse] if rehearsal else []))
        if self._chosen.children != children:
            self._chosen.children = children

    @property
    def _values(self) -> dict[str, Any]:
        return {name: field.value for name, (_, field) in self._choices.items()}

    def _call(self) -> Call:
        settings = start.settings((choice for choice, _ in self._choices.values()), self._values)
        if self.rehearse in self._chosen.children and self.rehearse.value:
            settings["rehearse"] = True
        settings |= self.size.settings

        def progress(sentence: str) -> None:
            self.lab.say("start", sentence)

        return start.up_call(self.lab.name, self.what.value, settings, progress=progress)


def _field(choice: start.Choice) -> Any:
    if choice.kind == "choice":
        options = list(choice.options)
        return labelled(widgets.Dropdown, choice.label, options=options, value=choice.value)
    if choice.kind == "flag":
        return labelled(widgets.Checkbox, choice.label, value=choice.value)
    if choice.kind == "text":
        field = labelled(widgets.Text, choice.label, value=choice.value)
        field.continuous_update = False
        return field
    least = -sys.maxsize if choice.least is None else choice.least
    most = sys.maxsize if choice.most is None else choice.most
    kind = widgets.BoundedIntText if choice.kind == "whole" else widgets.BoundedFloatText
    return labelled(kind, choice.label, min=least, max=most, value=choice.value)


def _started(session: Session) -> str:
    return session.message
