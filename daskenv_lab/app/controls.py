"""The page's controls: each shows the Python call that it makes, and what came of it."""

from __future__ import annotations

import contextlib
import html
from typing import TYPE_CHECKING, Any

import panel as pn

from daskenv_lab import config
from daskenv_lab.errors import DaskEnvLabError
from daskenv_lab.view import form, start
from daskenv_lab.view.call import Call, Named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefect import Flow

    from daskenv_lab.view.lab import Lab
    from daskenv_lab.view.offers import Offered


class CallControl:
    """A button, its call, and below it a sentence."""

    def __init__(
        self,
        lab: Lab,
        control: str,
        name: str,
        call: Callable[[], Call],
        *,
        then: Callable[[Any], str] | None = None,
        make: Callable[[Call], None] | None = None,
        sure: str = "",
    ) -> None:
        self.lab, self.control = lab, control
        self._name, self._sure, self._call = name, sure, call
        self._make = make or (lambda made: lab.do(control, made, then=then))
        self.button = pn.widgets.Button(name=name, button_type="primary")
        self._code, self._said = pn.pane.HTML(), pn.pane.HTML()
        self.layout = pn.Column(pn.Row(self.button, self._code), self._said)
        self.button.on_click(self._clicked)
        self.refresh()

    def refresh(self, *_: object) -> None:
        """Show the call as it would be made now."""
        try:
            self._code.object = f"<code>{html.escape(self._call().code)}</code>"
        except (ValueError, DaskEnvLabError) as error:
            self._code.object = html.escape(str(error))

    def show(self) -> None:
        """Show what came of the last call."""
        said = self.lab.said.get(self.control)
        if said is None:
            return
        told = html.escape(said.sentence or ("…" if said.busy else ""))
        shown = f'<span style="color: #b00020">{told}</span>' if said.failed else told
        if self._said.object != shown:
            self._said.object = shown
        if self.button.disabled != said.busy:
            self.button.disabled = said.busy

    def _clicked(self, _: object) -> None:
        if self._sure and self.button.name != self._sure:
            self.button.name = self._sure
            return
        self.button.name = self._name
        try:
            self._make(self._call())
        except (ValueError, DaskEnvLabError) as error:
            self.lab.say(self.control, str(error), failed=True)


class Start:
    """The profile, its choices, and the number of workers."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.what = pn.widgets.Select(name="Profile or kind", options=list(start.profiles()))
        self.workers = pn.widgets.IntInput(name="Workers", value=config.whole("workers"), start=0)
        self.rehearse = pn.widgets.Checkbox(name="Rehearse on this machine", value=True)
        self._found: tuple[start.Choice, ...] = ()
        self._fields: dict[str, Any] = {}
        self._offered: Offered | None = None
        self._choices, self._trouble = pn.Column(), pn.pane.HTML()
        self.button = CallControl(
            lab, "start", "Start or reuse", self._call, then=lambda session: session.message
        )
        self.layout = pn.Column(
            self.what, self._choices, self.workers, self._trouble, self.button.layout
        )
        self.what.param.watch(self._picked, "value")
        for field in (self.workers, self.rehearse):
            field.param.watch(self.button.refresh, "value")
        self._picked()

    def show(self) -> None:
        """Show what came of the start, and what a Gateway offers."""
        self.button.show()
        if self.lab.offers.of(self.what.value) != self._offered:
            self._changed()

    def _picked(self, *_: object) -> None:
        self._fields = {}
        with contextlib.suppress(DaskEnvLabError):  # told by `_changed`
            if start.asks(self.what.value):
                self.lab.offers.ask(self.what.value)
        self._changed()

    def _changed(self, *_: object) -> None:
        self._offered = self.lab.offers.of(self.what.value)
        told, rehearsal = self._offered.sentence, False
        chosen = {name: field.value for name, field in self._fields.items()}
        try:
            self._found = start.choices(self.what.value, chosen, self._offered.offers)
            rehearsal = start.takes_rehearsal(self.what.value)
        except DaskEnvLabError as error:
            self._found, told = (), str(error)
        self._trouble.object = html.escape(told)
        self._fields = {choice.name: _choice(choice) for choice in self._found}
        for field in self._fields.values():
            field.param.watch(self._changed, "value")
        self._choices.objects = [*self._fields.values(), *([self.rehearse] if rehearsal else [])]
        self.button.refresh()

    def _call(self) -> Call:
        values = {name: field.value for name, field in self._fields.items()}
        settings = start.settings(self._found, values)
        if self.rehearse in self._choices.objects and self.rehearse.value:
            settings["rehearse"] = True
        settings["n_workers"] = self.workers.value
        return start.up_call(
            self.lab.name,
            self.what.value,
            settings,
            progress=lambda sentence: self.lab.say("start", sentence),
        )


class FlowForm:
    """The flows that were named, a form for the chosen one, and how far its run is."""

    def __init__(self, lab: Lab, flows: Mapping[str, Flow[..., Any]]) -> None:
        self.lab, self.flows = lab, flows
        self.flow = pn.widgets.Select(name="Flow", options=list(flows))
        self._fields: dict[str, tuple[Any, pn.pane.HTML]] = {}
        self._form, self._progress = pn.Column(), pn.pane.HTML()
        self._whole = pn.pane.HTML()
        self.button = CallControl(lab, "run", "Run", self._call, make=lab.run)
        self.layout = pn.Column(
            self.flow, self._form, self._whole, self.button.layout, self._progress
        )
        self.flow.param.watch(self._chosen, "value")
        self._chosen()

    def show(self) -> None:
        """Show how far the run is."""
        progress = self.lab.progress
        if progress is None:
            return
        lines = [html.escape(line) for line in (*progress.notes, progress.sentence) if line]
        for task, count in progress.counts.items():
            failed = f", {count.failed} not completed" if count.failed else ""
            told = html.escape(f"{task}: {count.over} of {count.known}{failed}")
            lines.append(
                f'<label>{told} <progress value="{count.over}" max="{count.known}"></progress>'
                "</label>"
            )
        shown = "<br>".join(lines)
        if self._progress.object != shown:
            self._progress.object = shown

    def _chosen(self, *_: object) -> None:
        flow = self.flows.get(self.flow.value)
        self._fields = {}
        for told in form.fields(flow) if flow is not None else ():
            field = _field(told)
            field.param.watch(self.button.refresh, "value")
            self._fields[told.name] = (field, pn.pane.HTML())
        self._form.objects = [part for pair in self._fields.values() for part in pair]
        self.button.refresh()

    def _call(self) -> Call:
        flow = self.flows.get(self.flow.value)
        if flow is None:
            raise ValueError("name a file with flows: `daskenv app flows.py`")
        filled = form.read(flow, {name: field.value for name, (field, _) in self._fields.items()})
        for name, (_, problem) in self._fields.items():
            problem.object = html.escape(filled.problems.get(name, ""))
        self._whole.object = html.escape(filled.problems.get("", ""))
        if filled.problems:
            raise ValueError("fill in the fields first")
        return Call(
            what="run",
            positional=(Named(flow.fn.__name__, flow),),
            arguments={"_on": self.lab.name, **filled.parameters},
        )


def _choice(choice: start.Choice) -> Any:
    label, value = choice.label, choice.value
    if choice.kind == "choice":
        return pn.widgets.Select(name=label, options=dict(choice.options), value=value)
    if choice.kind == "flag":
        return pn.widgets.Checkbox(name=label, value=value)
    if choice.kind == "text":
        return pn.widgets.TextInput(name=label, value=value)
    kind = pn.widgets.IntInput if choice.kind == "whole" else pn.widgets.FloatInput
    return kind(name=label, value=value, start=choice.least, end=choice.most)


def _field(told: form.Field) -> Any:
    if told.kind == "flag":
        return pn.widgets.Checkbox(name=told.label, value=bool(told.default))
    if told.kind == "choice":
        return pn.widgets.Select(name=told.label, options=list(told.choices), value=told.default)
    needed = "needed" if told.required else ""
    return pn.widgets.TextInput(name=told.label, value=str(told.default), placeholder=needed)
