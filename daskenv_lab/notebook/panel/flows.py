"""Run a flow: a form of its parameters, and a bar for each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from daskenv_lab.notebook.controls import Controls
from daskenv_lab.notebook.panel.parts import CallButton, labelled, show, text
from daskenv_lab.view.actions import actions
from daskenv_lab.view.call import Call, Named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect import Flow

    from daskenv_lab.view.form import Field
    from daskenv_lab.view.lab import Lab
    from daskenv_lab.view.runs import RunProgress, TaskCount

_NONE = "(none is defined here)"


class FlowPart(widgets.VBox):  # type: ignore[misc]
    """The notebook's flows, the chosen one's form, and its run."""

    def __init__(self, lab: Lab, namespace: Mapping[str, Any]) -> None:
        self.lab, self._namespace = lab, namespace
        self.flow = labelled(widgets.Dropdown, "Flow", options=[_NONE])
        again = widgets.Button(description="Look again", tooltip="Look for flows again")
        again.on_click(lambda _: self.look_for_flows())
        self._fields: dict[str, tuple[Any, widgets.HTML]] = {}
        self._form, self._whole = widgets.VBox(), widgets.HTML()
        self.button = CallButton(lab, "run", "Run", self._call, make=lab.run, style="primary")
        self.stop = Controls(lab, [actions(lab.name)["stop"]])
        self.progress = Bars()
        super().__init__(
            [
                widgets.HBox([self.flow, again]),
                self._form,
                self._whole,
                self.button,
                self.progress,
                self.stop,
            ]
        )
        self.flow.observe(self._chosen, "value")

    def look_for_flows(self) -> None:
        """Offer the flows that the notebook defines by now."""
        from daskenv_lab.flows.loading import flows_in

        names = list(flows_in(self._namespace)) or [_NONE]
        chosen = self.flow.value
        if list(self.flow.options) != names:
            self.flow.options = names
            self.flow.value = chosen if chosen in names else names[0]
        self._chosen()

    def heard(self, what: str) -> None:
        """Show what came of the run."""
        self.button.heard(what)
        self.stop.heard(what)
        if what == "progress" and self.lab.progress is not None:
            self.progress.show(self.lab.progress)

    def _flow(self) -> Flow[..., Any]:
        if self.flow.value == _NONE:
            raise ValueError("define a flow in a cell (`@prefect.flow`), then look again")
        from daskenv_lab.flows.loading import load_flow

        return load_flow(self.flow.value, self._namespace)

    def _chosen(self, *_: object) -> None:
        self._fields = {}
        if self.flow.value != _NONE:
            from daskenv_lab.view import form

            for told in form.fields(self._flow()):
                field, problem = _field(told), widgets.HTML()
                field.observe(self._typed, "value")
                self._fields[told.name] = (field, problem)
        self._form.children = [w for pair in self._fields.values() for w in pair]
        self._typed()

    def _typed(self, *_: object) -> None:
        self.button.refresh()

    def _call(self) -> Call:
        flow = self._flow()
        from daskenv_lab.view import form

        filled = form.read(flow, {name: field.value for name, (field, _) in self._fields.items()})
        for name, (_, problem) in self._fields.items():
            told = filled.problems.get(name, "")
            show(problem, text(told, "failed") if told else "")
        whole = filled.problems.get("", "")
        show(self._whole, text(whole, "failed") if whole else "")
        if filled.problems:
            raise ValueError("fill in the fields first")
        return Call(
            what="run",
            positional=(Named(self.flow.value, flow),),
            arguments={"_on": self.lab.name, **filled.parameters},
        )


class Bars(widgets.VBox):  # type: ignore[misc]
    """A bar for each task of the run that goes on, or was the last."""

    def __init__(self) -> None:
        self._sentence = widgets.HTML()
        self._bars: dict[str, widgets.IntProgress] = {}
        super().__init__([self._sentence])

    def show(self, progress: RunProgress) -> None:
        """Show how far a run is."""
        show(self._sentence, text("; ".join([*progress.notes, progress.sentence]).strip("; ")))
        counts = progress.counts
        if set(self._bars) - set(counts):
            self._bars = {}
        for task, count in counts.items():
            if task not in self._bars:
                self._bars[task] = labelled(widgets.IntProgress, task, value=0, min=0, max=1)
                self.children = [self._sentence, *self._bars.values()]
            bar = self._bars[task]
            bar.max, bar.value = max(count.known, 1), count.over
            bar.bar_style = "danger" if count.failed else ("success" if _whole(count) else "")
            failed = f", {count.failed} not completed" if count.failed else ""
            bar.description = f"{task}: {count.over} of {count.known}{failed}"
        if not counts and len(self.children) > 1:
            self.children = [self._sentence]


def _whole(count: TaskCount) -> bool:
    return count.over == count.known


def _field(told: Field) -> Any:
    traits = {"tooltip": told.help} if told.help else {}
    if told.kind == "flag":
        return labelled(widgets.Checkbox, told.label, value=told.default, **traits)
    if told.kind == "choice":
        chosen = told.default if told.default in told.choices else None
        return labelled(widgets.Dropdown, told.label, options=told.choices, value=chosen, **traits)
    return labelled(
        widgets.Text,
        told.label,
        value=told.default,
        placeholder="needed" if told.required else "",
        **traits,
    )
