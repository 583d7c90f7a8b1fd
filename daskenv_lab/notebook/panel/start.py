"""Start a cluster: a profile, its sizes, and a fixed or adaptive number of workers."""

from __future__ import annotations

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
        self._choices: dict[str, Any] = {}
        self._chosen = widgets.VBox()
        self._trouble = widgets.HTML()
        self.button = CallButton(
            lab, "start", "Start or reuse", self._call, then=_started, style="primary"
        )
        super().__init__([self.what, self._chosen, self.size, self._trouble, self.button])
        self.what.observe(self._changed, "value")
        self.rehearse.observe(self.button.refresh, "value")
        self.size.watch(self.button.refresh)
        self._changed()

    def heard(self, what: str) -> None:
        """Show what came of the start."""
        self.button.heard(what)

    def _changed(self, *_: object) -> None:
        """Offer what the kind has, with what goes with what was chosen."""
        chosen = {name: field.value for name, field in self._choices.items()}
        try:
            found = start.choices(self.what.value, chosen)
            rehearsal = start.takes_rehearsal(self.what.value)
        except DaskEnvLabError as error:
            found, rehearsal = (), False
            show(self._trouble, text(error, "failed"))
        else:
            show(self._trouble, "")
        for field in self._choices.values():
            field.unobserve_all()
        self._choices = {choice.name: _field(choice) for choice in found}
        for field in self._choices.values():
            field.observe(self._changed, "value")
        self._chosen.children = [*self._choices.values(), *([self.rehearse] if rehearsal else [])]
        self.button.refresh()

    def _call(self) -> Call:
        settings = {name: field.value for name, field in self._choices.items()}
        if settings.get("worker_cpu") is None:
            settings.pop("worker_mem", None)
        if self.rehearse in self._chosen.children:
            settings["rehearse"] = self.rehearse.value
        settings |= self.size.settings

        def progress(sentence: str) -> None:
            self.lab.say("start", sentence)

        return start.up_call(self.lab.name, self.what.value, settings, progress=progress)


def _field(choice: start.Choice) -> Any:
    if not choice.options:
        field = labelled(widgets.Text, choice.label, value=choice.value or "")
        field.continuous_update = False
        return field
    return labelled(
        widgets.Dropdown, choice.label, options=list(choice.options), value=choice.value
    )


def _started(session: Session) -> str:
    return session.message
